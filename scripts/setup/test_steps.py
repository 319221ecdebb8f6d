"""python3 -m unittest discover -s scripts"""

import io
import os
import shutil
import tempfile
import threading
import time
import unittest
from pathlib import Path

from .steps import Steps, only_one


class StepsTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.sources = self.folder / "sources"
        self.sources.mkdir()
        (self.sources / "helper.py").write_text("1", encoding="utf-8")
        self.done = 0

    def do(self, build="build", inputs=1):
        """Does a step in a build folder; reports whether its action ran."""
        before = self.done
        folder = self.folder / build

        def action():
            self.done += 1
            folder.mkdir(exist_ok=True)
            (folder / "made").write_text("made", encoding="utf-8")
            return [folder / "made"]

        Steps(folder / "stamps", io.StringIO(), self.sources).do("step", "a step", inputs, action)
        return self.done > before

    def test_a_step_is_done_once(self):
        self.assertTrue(self.do())
        self.assertFalse(self.do())

    def test_other_inputs_or_another_helper_redo_it(self):
        self.do()
        self.assertTrue(self.do(inputs=2))
        (self.sources / "helper.py").write_text("2", encoding="utf-8")
        self.assertTrue(self.do(inputs=2))
        self.assertFalse(self.do(inputs=2))

    def test_a_missing_or_altered_file_redoes_it(self):
        for alter in (Path.unlink, lambda path: path.write_text("MADE", encoding="utf-8")):
            self.do()
            alter(self.folder / "build" / "made")
            self.assertTrue(self.do())

    def test_a_moved_build_folder_stays_done(self):
        self.do()
        os.rename(self.folder / "build", self.folder / "moved")
        self.assertFalse(self.do("moved"))

    def test_a_copied_build_folder_stays_done_though_its_files_are_newer(self):
        self.do()
        shutil.copytree(self.folder / "build", self.folder / "copy", copy_function=shutil.copyfile)
        os.utime(self.folder / "copy" / "made", (1, 1))
        self.assertFalse(self.do("copy"))
        (self.folder / "copy" / "made").write_text("MADE", encoding="utf-8")
        self.assertTrue(self.do("copy"))


if __name__ == "__main__":
    unittest.main()


class OnlyOneTest(unittest.TestCase):
    def test_the_second_set_up_waits_and_says_for_what(self):
        with tempfile.TemporaryDirectory() as name:
            folder, out, entered = Path(name) / "build", io.StringIO(), []

            def second():
                with only_one(folder, out):
                    entered.append(True)

            thread = threading.Thread(target=second)
            with only_one(folder, out):
                self.assertEqual(out.getvalue(), "")
                thread.start()
                while "waiting for another set-up" not in out.getvalue():
                    time.sleep(0.001)
                self.assertEqual(entered, [])
            thread.join()
            self.assertEqual(entered, [True])
