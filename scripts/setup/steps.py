"""Running commands, and doing each step of the set-up once."""

import contextlib
import fcntl
import hashlib
import inspect
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

TAIL_LINES = 25


class SetupError(Exception):
    """A failed step: what failed, the command, its output, and what to do."""

    def __init__(self, what, command=None, output="", advice=""):
        self.what, self.command, self.output, self.advice = what, command, output, advice
        super().__init__(what)

    def __str__(self):
        lines = [self.what]
        if self.command:
            lines.append("  command: " + shlex.join(str(word) for word in self.command))
        tail = self.output.strip().splitlines()[-TAIL_LINES:]
        if tail:
            lines.append("  its last lines:")
            lines += ["    " + line for line in tail]
        if self.advice:
            lines.append("  what to do: " + self.advice)
        return "\n".join(lines)


def run(command, what, advice="", cwd=None, env=None):
    """Runs command and returns what it wrote to standard output.

    what names the package or part that the command is for; it opens the
    error when the command fails. env is added to the environment.
    """
    try:
        done = subprocess.run(
            [str(word) for word in command],
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except OSError as err:
        raise SetupError(what, command, str(err), advice) from err
    if done.returncode != 0:
        raise SetupError(what, command, done.stdout + done.stderr, advice)
    return done.stdout


def expect(path, what, found, expected):
    """Raises an error unless found is what was expected."""
    if found != expected:
        raise SetupError(f"{os.path.relpath(path)}: {what}: found {found}, expected {expected}")


def sha256(path):
    """The SHA-256 of a file, in hexadecimal."""
    total = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            total.update(block)
    return total.hexdigest()


def write_atomic(path, data):
    """Writes data (bytes) to path, so that a reader sees all of it or the old file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    os.replace(temporary, path)


def copy_atomic(source, path):
    """Copies a file as write_atomic writes one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    shutil.copyfile(source, temporary)
    os.replace(temporary, path)


def files_under(folder):
    """Every file below folder, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


class Steps:
    """Does each step once; folder remembers which were done, and from what.

    A step is done again when its inputs or any source file of the set-up
    changed, or when a file that it made is missing or differs. Stamps name
    files relative to the build folder, so that a copied or moved build folder
    stays done. Inputs must not name absolute paths for the same reason.
    """

    def __init__(self, folder, out=sys.stderr, sources=Path(__file__).parent):
        self.folder, self.out, self.sources = folder, out, sources

    def do(self, name, title, inputs, action):
        """Runs action, which returns the files it made, unless it was done.

        inputs holds everything the result depends on, in a form that JSON takes.
        Without a title, the action reports its own progress.
        """
        stamp = self.folder / f"{name}.json"
        key = self._key(inputs, action)
        if self._done(stamp, key):
            return
        with contextlib.suppress(FileNotFoundError):
            stamp.unlink()
        made = self.always(title, action) if title else action()
        self._write(stamp, key, {self._relative(path): self._mark(path) for path in made})

    def always(self, title, action):
        """Runs action, and reports title and the time that it took."""
        self.out.write(f"set-up: {title} ... ")
        self.out.flush()
        start = time.monotonic()
        try:
            result = action()
        except BaseException:
            self.out.write("failed\n")
            raise
        self.out.write(f"{time.monotonic() - start:.1f} s\n")
        return result

    def _key(self, inputs, action):
        """Hashes the inputs, this package and the action's: an action may call any helper there."""
        folders = [self.sources, Path(inspect.getfile(action)).parent]
        sources = [sha256(path) for folder in folders for path in sorted(folder.glob("*.py"))]
        text = json.dumps([inputs, sources], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def _relative(self, path):
        return os.path.relpath(path, self.folder.parent)

    @staticmethod
    def _mark(path):
        stat = os.stat(path)
        return [stat.st_size, stat.st_mtime_ns, sha256(path)]

    def _done(self, stamp, key):
        """Reports whether a stamp has this key and its files are as they were.

        A copied file may have another time; its hash decides, once.
        """
        try:
            old = json.loads(stamp.read_bytes())
            if old["key"] != key:
                return False
            retimed = False
            for name, (size, mtime, digest) in old["made"].items():
                path = self.folder.parent / name
                stat = os.stat(path)
                if stat.st_mtime_ns != mtime:
                    retimed = True
                    if sha256(path) != digest:
                        return False
                elif stat.st_size != size:
                    return False
            if retimed:
                made = {name: self._mark(self.folder.parent / name) for name in old["made"]}
                self._write(stamp, key, made)
            return True
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return False

    @staticmethod
    def _write(stamp, key, made):
        write_atomic(stamp, json.dumps({"key": key, "made": made}, indent=1).encode())


@contextlib.contextmanager
def only_one(folder, out=sys.stderr):
    """Holds the lock of a build folder, waiting for another set-up to end."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            out.write(f"set-up: waiting for another set-up that uses {os.path.relpath(folder)}\n")
            out.flush()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
