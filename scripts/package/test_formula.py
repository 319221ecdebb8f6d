"""python3 -m unittest discover -s scripts"""

import hashlib
import re
import unittest

from setup.capi import version_of
from setup.project import MACOS
from setup.steps import SetupError

from . import formula, release
from .install import layout
from .test_install import ROOT, built

TEXT = (ROOT / "scripts/package/homebrew" / "mlxrank.rb").read_text(encoding="utf-8")
MACOS_NAMES = {"sonoma": 14, "sequoia": 15, "tahoe": 26}


class Formula(unittest.TestCase):
    """The formula is held against the layout of the archive, the pins and the version."""

    def setUp(self):
        self.project = built(self, MACOS)
        self.paths = {path for path, _ in layout(self.project)}

    def test_it_installs_all_that_the_archive_has(self):
        (line,) = re.findall(r"prefix\.install (.*)", TEXT)
        self.assertEqual(set(re.findall(r'"(\w+)"', line)), {path.split("/")[0] for path in self.paths})

    def test_the_files_that_it_names_are_in_the_archive(self):
        named = re.findall(r'\b(bin|lib)/"([^"]+)"', TEXT)
        self.assertIn(("lib", "mlxrank/mlx.metallib"), named)
        for folder, name in named:
            self.assertIn(f"{folder}/{name}", self.paths)

    def test_it_asks_for_the_macos_of_the_wheel(self):
        (name,) = re.findall(r"depends_on macos: :(\w+)", TEXT)
        platform = self.project.pin("wheel", self.project.mlx_wheel)["platform"]
        self.assertEqual(platform, f"macosx_{MACOS_NAMES[name]}_0_arm64")

    def test_its_address_is_that_of_the_archive(self):
        version = version_of(self.project)
        archive = f"mlxrank_{version}_{release.NAMES[MACOS]}.tar.gz"
        self.assertIn(f'url "{formula.RELEASES}/v{version}/{archive}"', TEXT)

    def test_a_release_fills_it(self):
        archive = self.project.build / "dist" / "archive.tar.gz"
        archive.parent.mkdir()
        archive.write_bytes(b"an archive")
        digest = hashlib.sha256(b"an archive").hexdigest()
        text = formula.write(self.project, "2.3.4", archive).read_text(encoding="utf-8")
        self.assertIn(f'  url "{formula.RELEASES}/v2.3.4/mlxrank_2.3.4_darwin_arm64.tar.gz"\n  sha256 "{digest}"\n', text)
        self.assertTrue(text.startswith("class Mlxrank < Formula\n"))
        text = formula.write(self.project, "2.3.4", archive, trial=True).read_text(encoding="utf-8")
        self.assertIn(f'  url "{archive.as_uri()}"\n  version "2.3.4"\n  sha256 "{digest}"\n', text)

    def test_a_formula_without_a_place_for_the_hash_is_refused(self):
        with self.assertRaisesRegex(SetupError, "sha256.* 0 times"):
            formula.filled(TEXT.replace("0" * 64, "1" * 64), "https://x", "2" * 64)


class Releases(unittest.TestCase):
    def test_a_wrong_checksum_is_refused(self):
        folder = built(self, MACOS).build
        archive, checksums = folder / "a.tar.gz", folder / "checksums.txt"
        archive.write_bytes(b"an archive")
        digest = hashlib.sha256(b"an archive").hexdigest()
        checksums.write_text(f"{digest}  a.tar.gz\n", encoding="utf-8")
        release.summed(checksums, archive)
        for text in (f"{digest}  b.tar.gz\n", f"{'0' * 64}  a.tar.gz\n", ""):
            checksums.write_text(text, encoding="utf-8")
            with self.assertRaises(SetupError):
                release.summed(checksums, archive)


if __name__ == "__main__":
    unittest.main()
