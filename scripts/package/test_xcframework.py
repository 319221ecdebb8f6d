"""python3 -m unittest discover -s scripts"""

import hashlib
import io
import re
import tempfile
import unittest
import zipfile
from pathlib import Path
from unittest import mock

from setup.capi import version_of
from setup.project import LINUX, MACOS, Project
from setup.steps import SetupError

from . import release, xcframework
from .test_install import ROOT

TEXT = (ROOT / "Package.swift").read_text(encoding="utf-8")
SAMPLE = (ROOT / "capi/swift/Examples/RankFolder/Package.swift").read_text(encoding="utf-8")


class XCFramework(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.project = Project(ROOT, MACOS, self.folder / "build")
        self.project.steps.out = io.StringIO()
        for name in xcframework.NAMES:
            versions = self.folder / f"{name}.xcframework/macos-arm64/{name}.framework/Versions"
            (versions / "A").mkdir(parents=True)
            (versions / "Current").symlink_to("A")
            (versions / "A" / name).write_text(name, encoding="utf-8")
            (versions / "A" / name).chmod(0o755)

    def test_an_archive_keeps_links_and_modes(self):
        path = self.folder / "a.zip"
        xcframework.pack(self.folder / "MLXRankMLX.xcframework", path)
        with zipfile.ZipFile(path) as archive:
            found = {entry.filename: (entry.external_attr >> 16, archive.read(entry)) for entry in archive.infolist()}
        start = "MLXRankMLX.xcframework/macos-arm64/MLXRankMLX.framework/Versions/"
        self.assertEqual(found, {start + "Current": (0o120777, b"A"), start + "A/MLXRankMLX": (0o100755, b"MLXRankMLX")})

    def test_the_same_files_make_the_same_archive(self):
        folder = self.folder / "MLXRank.xcframework"
        xcframework.pack(folder, self.folder / "a.zip")
        (folder / "macos-arm64/MLXRank.framework/Versions/A/MLXRank").touch()
        xcframework.pack(folder, self.folder / "b.zip")
        self.assertEqual((self.folder / "a.zip").read_bytes(), (self.folder / "b.zip").read_bytes())

    def test_a_release_fills_package_swift(self):
        dist = self.folder / "dist"
        archives = xcframework.archive(self.project, self.folder, dist, "2.3.4")
        self.assertEqual([path.name for path in archives], [f"{name}.xcframework.zip" for name in xcframework.NAMES])
        text = (dist / "Package.swift").read_text(encoding="utf-8")
        self.assertIn('\nlet release = "2.3.4"\n', text)
        for path in archives:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            self.assertIn(f'    "{path.name.split(".")[0]}": "{digest}",\n', text)
        # A filled one is not filled again: its frameworks are another release's.
        with self.assertRaisesRegex(SetupError, "let release.* 0 times"):
            xcframework.filled(text, "2.3.5", {})

    def test_a_release_adds_them_to_the_checksums(self):
        sums = self.project.build / "dist" / "checksums_darwin_arm64.txt"
        sums.parent.mkdir(parents=True)
        sums.write_text("0  an archive\n", encoding="utf-8")
        with mock.patch.object(xcframework, "write", return_value=self.folder):
            release.frameworks(self.project, "2.3.4")
        first, *lines = sums.read_text(encoding="utf-8").splitlines()
        self.assertEqual(first, "0  an archive")
        archives = [sums.parent / f"{name}.xcframework.zip" for name in xcframework.NAMES]
        self.assertEqual(lines, [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}" for path in archives])

    def test_package_swift_names_the_archives(self):
        self.assertEqual(re.findall(r'^    "(\w+)": "",$', TEXT, re.MULTILINE), xcframework.NAMES)
        self.assertEqual(re.findall(r'framework\("\w+", in: "(\w+)"\)', TEXT), xcframework.NAMES)
        with self.assertRaisesRegex(SetupError, "MLXRankOther.* 0 times"):
            xcframework.filled(TEXT, "1.0.0", {"MLXRankOther": "0"})

    def test_the_sample_app_takes_this_version(self):
        (version,) = re.findall(r'url: "https://github\.com/mlxrank/mlxrank", \.upToNextMinor\(from: "(.*)"\)', SAMPLE)
        self.assertEqual(version, version_of(self.project))

    def test_linux_makes_none(self):
        with self.assertRaisesRegex(SetupError, "macOS"):
            xcframework.build(Project(ROOT, LINUX, self.folder / "build"))


if __name__ == "__main__":
    unittest.main()
