"""python3 -m unittest discover -s scripts"""

import re
import unittest

from package.test_install import ROOT


class Workflows(unittest.TestCase):
    """actionlint knows the workflows' language; these are the names of ours in them."""

    def setUp(self):
        folder = ROOT / ".github" / "workflows"
        self.texts = {path.name: path.read_text("utf-8") for path in sorted(folder.glob("*.yml"))}
        self.makefile = (ROOT / "Makefile").read_text(encoding="utf-8")

    def test_the_targets_are_in_the_makefile(self):
        for name, text in self.texts.items():
            called = re.findall(r"^ *(?:- )?(?:run: )?make ([a-z -]+?)(?: \|\|.*)?$", text, re.MULTILINE)
            for suites in re.findall(r"^ *suite: \[(.*)\]$", text, re.MULTILINE):
                called += suites.replace(",", " ").split()
            self.assertEqual(bool(called), name != "swift-tag.yml", name)
            for target in " ".join(called).split():
                self.assertRegex(self.makefile, rf"(?m)^{target}:", f"{name}: make {target}")

    def test_the_files_are_in_the_repository(self):
        text = "\n".join(self.texts.values())
        named = re.findall(r"(?:\./)?((?:\.ci|\.github|scripts)/[\w./-]+)", text)
        self.assertIn(".ci/run", named)
        for path in named:
            self.assertTrue((ROOT / path).exists(), path)

    def test_no_job_may_more_than_it_needs(self):
        for name, text in self.texts.items():
            self.assertIn("\npermissions:\n  contents: read\n", text, name)
            self.assertEqual(text.count("contents: write"), int(name in ("release.yml", "swift-tag.yml")), name)
            jobs = re.findall(r"^    (runs-on|timeout-minutes):", text, re.MULTILINE)
            self.assertEqual(jobs.count("runs-on"), jobs.count("timeout-minutes"), name)

    def test_no_script_is_piped_to_a_shell(self):
        action = ROOT / ".github" / "actions" / "tools" / "action.yml"
        for text in [*self.texts.values(), action.read_text(encoding="utf-8")]:
            self.assertNotRegex(text, r"\|\s*(ba)?sh\b")


class Requirements(unittest.TestCase):
    """zizmor holds that actions are named by commits; pip checks hashes that are there."""

    def test_every_package_has_a_hash(self):
        folder = ROOT / "scripts" / "requirements"
        wanted = sorted(path.stem for path in folder.glob("*.in"))
        self.assertEqual(wanted, sorted(path.stem for path in folder.glob("*.txt")))
        for name in wanted:
            text = (folder / f"{name}.txt").read_text(encoding="utf-8")
            packages = re.findall(r"(?m)^([\w.-]+)(\[[\w,]+\])?==\S+.*(?:\n    --hash=sha256:[0-9a-f]{64}.*)+", text)
            lines = re.findall(r"(?m)^[^\s#].*", text)
            self.assertEqual(len(packages), len(lines), name)
            for line in (folder / f"{name}.in").read_text(encoding="utf-8").splitlines():
                if line and not line.startswith("#"):
                    pinned = line.lower().replace("_", "-") + " "
                    self.assertTrue(f"\n{pinned}" in f"\n{text}", f"{name}: {line}")

    def test_make_takes_only_these(self):
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        for path in re.findall(r"--requirement (\S+)", makefile):
            self.assertRegex(path, r"^scripts/requirements/\w+\.txt$")
            self.assertTrue((ROOT / path).exists(), path)


if __name__ == "__main__":
    unittest.main()
