"""Who takes part, in which process, and set up how."""

import dataclasses
import pathlib
import sys

import processes

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CORES = int(processes.CORES)
OURS = "mlxrank"


@dataclasses.dataclass
class Subject:
    name: str
    precision: str
    command: list  # its process, which speaks as protocol.py says
    once: list  # its start: a process that scores one QUERY DOCUMENT, appended
    settings: str  # for the reader
    tuned: bool = True  # takes the batch size that is fastest for it
    env: dict = dataclasses.field(default_factory=dict)
    whole: bool = True  # cuts long pairs as the tokenizer of transformers does

    @property
    def ours(self):
        return self.name.startswith(OURS)

    @property
    def reduced(self):
        return self.precision != "float32"


def subjects(work):
    return [*mlxrank(work), *peers(work)]


def mlxrank(work):
    def subject(name, precision, settings, env=None):
        command = [work / "mlxrank", "-model", work / "model", "-dtype", precision]
        command += ["-library", ROOT / "build" / "lib" / "libmlxrank.so"]
        once = [ROOT / "build" / "bin" / "mlxrank", "rerank", "--model", work / "model", "--dtype", precision, "--query"]
        return Subject(name, precision, command, once, settings, tuned=False, env=env or {})

    unfused = {"MLXRANK_UNFUSED_GRAPH": "1"}
    return [
        subject(OURS, "float32", "defaults"),
        subject(OURS + " bfloat16", "bfloat16", "`--dtype bfloat16`"),
        subject(OURS + " unfused graph", "float32", "`MLXRANK_UNFUSED_GRAPH=1`: MLX's own operations, as on Metal", unfused),
    ]


def peers(work):
    def python(name, precision, settings, *args, **more):
        command = [sys.executable, "-B", HERE / args[0], *args[1:]]
        return Subject(name, precision, command, [*command, "--once"], settings, **more)

    model, onnx, xml = work / "model", work / "model" / "model.onnx", work / "model.xml"
    threads = f"{CORES} threads, batches of pairs sorted by length, the batch size that is fastest here"
    hugot = [work / "hugot", model, work / "onnxruntime"]
    return [
        python(
            "sentence-transformers",
            "float32",
            f"CrossEncoder.predict, its default batch size of 32, {CORES} threads; it sorts by length itself",
            "peer_sentence_transformers.py",
            model,
            tuned=False,
        ),
        python(
            "PyTorch",
            "float32",
            f"transformers, scaled-dot-product attention, inference mode, {threads}",
            "peer_torch.py",
            model,
            "float32",
        ),
        python("PyTorch bfloat16", "bfloat16", "the same with the weights in bfloat16", "peer_torch.py", model, "bfloat16"),
        python(
            "ONNX Runtime",
            "float32",
            f"exported by torch.onnx, fused by its transformers optimizer, all graph optimisations, {threads}",
            "peer_onnxruntime.py",
            model,
            onnx,
        ),
        python(
            "ONNX Runtime int8", "int8", "the same, quantised dynamically, per channel", "peer_onnxruntime.py", model, work / "int8.onnx"
        ),
        python(
            "OpenVINO", "float32", f"inference precision f32, performance hint LATENCY, {threads}", "peer_openvino.py", model, xml, "f32"
        ),
        python("OpenVINO bfloat16", "bfloat16", "the same with inference precision bf16", "peer_openvino.py", model, xml, "bf16"),
        python(
            "Python MLX",
            "float32",
            f"the graph of native/src/unfused_ops.cpp on Debian's OpenBLAS with {CORES} threads, as in mlxrank, batches sorted by length, the batch size that is fastest here",
            "peer_mlx.py",
            model,
            env={"OPENBLAS_NUM_THREADS": str(CORES)},
        ),
        Subject(
            "hugot",
            "float32",
            hugot,
            [*hugot, "--once"],
            f"its cross-encoder on the ONNX Runtime and the fused model of the rows above, {CORES} threads, the documents of a query sorted by length, the batch size that is fastest here",
            whole=False,
        ),
    ]
