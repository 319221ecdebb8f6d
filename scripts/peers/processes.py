"""Runs a subject in a process, which answers requests in lines of JSON, one at a time."""

import contextlib
import json
import os
import pathlib
import subprocess
import time

# macOS has no affinity.
CORES = str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())


def environment(subject):
    """The driver's environment with a thread per core, and no way to the network."""
    return {**os.environ, "OMP_NUM_THREADS": CORES, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true", **subject.env}


class Process:
    def __init__(self, subject, log):
        self.subject = subject
        self.log = log / (subject.name.replace(" ", "-") + ".log")
        command = [str(word) for word in subject.command]
        with open(self.log, "w", encoding="utf-8") as errors:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment(subject)
            )
        self.facts = self.answer()

    def ask(self, op, **more):
        self.process.stdin.write(
            json.dumps({"op": op, **{k: str(v) if isinstance(v, pathlib.Path) else v for k, v in more.items()}}) + "\n"
        )
        self.process.stdin.flush()
        return self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            end = "\n".join(self.log.read_text("utf-8").splitlines()[-8:])
            raise SystemExit(f"peers: {self.subject.name} ended with status {self.process.wait()}:\n{end}")
        return json.loads(line)

    def memory(self):
        """The most memory that was ever resident, in bytes."""
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text("utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise SystemExit(f"peers: no VmHWM of {self.subject.name}'s process")

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()


@contextlib.contextmanager
def in_background(subject, log):
    """Runs a subject that answers nothing."""
    command = [str(word) for word in subject.command]
    with open(log / (subject.name + ".log"), "w", encoding="utf-8") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment(subject))
        try:
            yield
        finally:
            process.terminate()
            process.wait()


def first_score(subject, query, document):
    """Seconds from the start of a new process to the end of its first line of output."""
    command = [str(word) for word in [*subject.once, query, document]]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment(subject)) as process:
        line = process.stdout.readline()
        seconds = time.perf_counter() - start
        process.stdout.read()
    if process.returncode or not line:
        raise SystemExit(f"peers: {subject.name} gave no score: status {process.returncode} of {command}")
    return seconds
