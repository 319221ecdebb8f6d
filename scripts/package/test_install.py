"""python3 -m unittest discover -s scripts"""

import io
import os
import stat
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from setup.project import LINUX, MACOS, Project
from setup.steps import SetupError

from . import install

ROOT = Path(__file__).resolve().parent.parent.parent
BUILT = [
    "bin/mlxrank",
    "capi/include/mlxr.h",
    "capi/lib/libmlxr.dylib",
    "capi/lib/libmlxr.so",
    "capi/lib/libmlxr-static.a",
    "capi/lib/pkgconfig/mlxr.pc",
    "capi/lib/pkgconfig/mlxr-static.pc",
    "lib/libmlxrank.dylib",
    "lib/libmlx.dylib",
    "lib/mlx.metallib",
    "lib/macos26/libmlx.dylib",
    "lib/macos26/libmlxrank.dylib",
    "lib/libblas.so.3",
    "lib/.libmlx.dylib.123",
    "tokenizers/libtokenizers.a",
    "models/all-MiniLM-L6-v2/model.safetensors",
    "models/all-MiniLM-L6-v2/1_Pooling/config.json",
    "THIRD_PARTY_NOTICES.txt",
]


def built(test, host):
    """A build folder whose files hold their own names."""
    folder = tempfile.TemporaryDirectory()
    test.addCleanup(folder.cleanup)
    project = Project(ROOT, host, Path(folder.name) / "build")
    project.steps.out = io.StringIO()
    for name in BUILT:
        path = project.build / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name, encoding="utf-8")
    return project


class Install(unittest.TestCase):
    def setUp(self):
        self.project = built(self, MACOS)
        self.prefix = self.project.build.parent / "a prefix"

    def install(self, command=install.install, prefix=None, destdir=""):
        env = {"PREFIX": str(prefix or self.prefix), "DESTDIR": destdir}
        with mock.patch.dict(os.environ, env):
            command(self.project)

    def test_files_are_where_the_program_looks(self):
        self.install()
        for path, name in {
            "bin/mlxrank": "bin/mlxrank",
            "lib/libmlxr.dylib": "capi/lib/libmlxr.dylib",
            "lib/pkgconfig/mlxr.pc": "capi/lib/pkgconfig/mlxr.pc",
            "lib/mlxrank/libmlxrank.dylib": "lib/libmlxrank.dylib",
            "lib/mlxrank/macos26/libmlx.dylib": "lib/macos26/libmlx.dylib",
            "lib/mlxrank/macos26/libmlxrank.dylib": "lib/macos26/libmlxrank.dylib",
            "lib/mlxrank/libtokenizers.a": "tokenizers/libtokenizers.a",
            "share/mlxrank/models/all-MiniLM-L6-v2/1_Pooling/config.json": "models/all-MiniLM-L6-v2/1_Pooling/config.json",
        }.items():
            self.assertEqual((self.prefix / path).read_text(encoding="utf-8"), name)
        self.assertEqual(list(self.prefix.rglob(".*")), [])

    def test_permissions_do_not_come_from_the_umask(self):
        old = os.umask(0o077)
        self.addCleanup(os.umask, old)
        self.install()
        modes = {"bin/mlxrank": 0o755, "lib/mlxrank/libblas.so.3": 0o755, "include/mlxr.h": 0o644}
        for path, mode in modes.items():
            self.assertEqual(stat.S_IMODE((self.prefix / path).stat().st_mode), mode, path)
        for folder in (self.prefix, self.prefix / "lib" / "mlxrank"):
            self.assertEqual(stat.S_IMODE(folder.stat().st_mode), 0o755, folder)

    def test_destdir_comes_before_the_prefix(self):
        stage = self.project.build.parent / "stage"
        self.install(prefix="/usr", destdir=str(stage))
        self.assertTrue((stage / "usr" / "bin" / "mlxrank").exists())

    def test_an_open_file_stays_whole(self):
        self.install()
        with open(self.prefix / "bin/mlxrank", encoding="utf-8") as running:
            (self.project.build / "bin/mlxrank").write_text("new", encoding="utf-8")
            self.install()
            self.assertEqual(running.read(), "bin/mlxrank")
        self.assertEqual((self.prefix / "bin/mlxrank").read_text(encoding="utf-8"), "new")

    def test_uninstall_leaves_what_is_of_others(self):
        other = self.prefix / "lib" / "other.a"
        other.parent.mkdir(parents=True)
        other.write_text("other", encoding="utf-8")
        self.install()
        self.install(install.uninstall)
        self.assertEqual([p for p in self.prefix.rglob("*") if p.is_file()], [other])
        self.assertEqual(list(self.prefix.rglob("mlxrank")), [])
        self.install(install.uninstall)

    def test_what_is_missing_is_named(self):
        (self.project.build / "capi/lib/libmlxr-static.a").unlink()
        with self.assertRaisesRegex(SetupError, r"(?s)libmlxr-static\.a.*make build capi"):
            self.install()
        self.assertFalse(self.prefix.exists())

    def test_a_relative_prefix_is_refused(self):
        with self.assertRaisesRegex(SetupError, "PREFIX=there is not an absolute path"):
            self.install(prefix="there")

    def test_linux_has_its_own_library(self):
        paths = [path for path, _ in install.layout(built(self, LINUX))]
        self.assertIn("lib/libmlxr.so", paths)
        self.assertNotIn("lib/libmlxr.dylib", paths)

    def test_every_wheel_is_of_one_mlx(self):
        pins = self.project.pins
        wheels = [name for name in pins.sections() if name.startswith("wheel:mlx-")]
        self.assertEqual(len(wheels), 4)
        for name in wheels:
            self.assertEqual(pins[name]["version"], pins["mlx"]["version"], name)


if __name__ == "__main__":
    unittest.main()
