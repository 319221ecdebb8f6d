"""Faults put into the Swift package, which swift_contract must find."""

import unittest
from pathlib import Path

from . import swift_contract

CAPI = Path(__file__).resolve().parent.parent.parent / "capi"
HEADER = (CAPI / "mlxr.h").read_text(encoding="utf-8")
GO = "\n".join(
    path.read_text(encoding="utf-8") for path in [CAPI / "figures.go", *sorted((CAPI.parent / "internal/telemetry").glob("*.go"))]
)
SWIFT = "\n".join(path.read_text(encoding="utf-8") for path in sorted((CAPI / "swift/Sources/MLXRank").glob("*.swift")))


class Contract(unittest.TestCase):
    def test_holds(self):
        self.assertEqual(swift_contract.faults(HEADER, SWIFT, GO), [])

    def expect(self, expected, header=HEADER, swift=SWIFT, go=GO):
        self.assertNotEqual((header, swift, go), (HEADER, SWIFT, GO), "the fault was not put in")
        found = swift_contract.faults(header, swift, go)
        self.assertTrue(any(expected in fault for fault in found), found)

    def test_a_name_the_header_lacks(self):
        self.expect("mlxr_trimm is not in", swift=SWIFT.replace("mlxr_trim(", "mlxr_trimm("))
        self.expect("mlxr_trim of mlxr.h is not used", swift=SWIFT.replace("mlxr_trim(", "mlxr_info("))

    def test_a_function_with_another_argument(self):
        header = HEADER.replace("int32_t mlxr_trim(mlxr_ranker ranker)", "int32_t mlxr_trim(mlxr_ranker ranker, int now)")
        self.expect("mlxr_trim takes 2", header=header)

    def test_a_field_the_header_lacks(self):
        self.expect("field queue_wait_ms", header=HEADER.replace("queue_wait_ms;", "queued_ms;"))
        self.expect("fields of mlxr_text", header=HEADER.replace("int64_t bytes;\n} mlxr_text", "int64_t length;\n} mlxr_text"))

    def test_a_status_without_a_case(self):
        self.expect("cases of Code", header=HEADER.replace("MLXR_FAILED = 11", "MLXR_FAILED = 11,\n  MLXR_NEW = 12"))
        self.expect("cases of Code", swift=SWIFT.replace("case failed = 11", "case failed = 12"))

    def test_a_constant_with_another_number(self):
        self.expect("cases of DType", swift=SWIFT.replace("case float32 = 1", "case float32 = 2"))
        self.expect("cases of LogLevel", header=HEADER.replace("MLXR_LOG_WARN = 2", "MLXR_LOG_WARNING = 2"))

    def test_a_json_field_of_another_name(self):
        self.expect("JSON fields of Stats", go=GO.replace('"queue_wait_ms"', '"queue_ms"'))
        self.expect("JSON fields of Info", swift=SWIFT.replace('"mlx_path"', '"path"'))
        self.expect("JSON fields of Distribution", go=GO.replace('"p99"', '"p999"'))
        self.expect("JSON fields of Memory", go=GO.replace('"peak_bytes"', '"peak"'))


if __name__ == "__main__":
    unittest.main()
