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
    """A step that failed, told so that the reader knows what to do."""

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
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
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
    """Does steps once, and remembers in folder which were done with what.

    A step is done again when its inputs or its own code changed, or when one
    of the files it made is missing or was altered.
    """

    def __init__(self, folder, out=sys.stderr):
        self.folder, self.out = folder, out

    def do(self, name, title, inputs, action):
        """Runs action, which returns the files it made, unless that is done.

        inputs is whatever the result depends on, in a form that JSON takes.
        """
        stamp = self.folder / f"{name}.json"
        key = self._key(inputs, action)
        if self._done(stamp, key):
            return
        with contextlib.suppress(FileNotFoundError):
            stamp.unlink()
        made = {str(path): self._mark(path) for path in self.always(title, action)}
        write_atomic(stamp, json.dumps({"key": key, "made": made}, indent=1).encode())

    def always(self, title, action):
        """Runs action, telling what it is and how long it took."""
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

    @staticmethod
    def _key(inputs, action):
        text = json.dumps([inputs, inspect.getsource(action)], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    @staticmethod
    def _mark(path):
        stat = os.stat(path)
        return [stat.st_size, stat.st_mtime_ns]

    def _done(self, stamp, key):
        try:
            old = json.loads(stamp.read_bytes())
            return old["key"] == key and all(
                self._mark(path) == mark for path, mark in old["made"].items()
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return False


@contextlib.contextmanager
def only_one(folder):
    """Holds the lock of a build folder, waiting for another set-up to end."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
