"""What every golden shares: a repeatable PyTorch, versions, files."""

import gzip
import importlib.metadata
import io
import json
import os
import pathlib

# One instruction set and one thread, chosen before PyTorch is imported: float32
# sums then come in the same order on every x86-64 machine with AVX2.
os.environ.update(
    ATEN_CPU_CAPABILITY="avx2",
    MKL_CBWR="AVX2",
    ONEDNN_MAX_CPU_ISA="AVX2",
    OMP_NUM_THREADS="1",
    MKL_NUM_THREADS="1",
    TOKENIZERS_PARALLELISM="false",
    HF_HUB_OFFLINE="1",
)

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
ENGINE = ROOT / "engine" / "testdata"
WEIGHTS = ROOT / "weights" / "testdata"
ADAPTER = ROOT / "weights" / "builtin"
BASE = ROOT / "build" / "models" / "all-MiniLM-L6-v2"


def made_with(*packages):
    """The versions of packages, as goldens record them."""
    return {name: importlib.metadata.version(name) for name in packages}


def compact(value):
    """JSON in UTF-8 without needless spaces; no NaN."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def write_gzip(path, text):
    """Writes text to path, compressed; the same text gives the same bytes."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=buffer, mtime=0) as f:
        f.write(text.encode())
    write(path, buffer.getvalue())


def write(path, data):
    """Writes data to path, and reports whether the file changed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    same = path.exists() and path.read_bytes() == data
    path.write_bytes(data)
    print(f"{path.relative_to(ROOT)}: {len(data):,} bytes, {'unchanged' if same else 'changed'}")


def write_json(path, value):
    write_gzip(path, compact(value) + "\n")


def write_lines(path, values):
    write_gzip(path, "".join(compact(v) + "\n" for v in values))


def read_lines(path):
    """The values of a compressed JSONL file."""
    with gzip.open(path, "rt", encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def numbers(array):
    """Numbers of any dtype as a flat list with the fewest digits that float32 needs."""
    return [float(str(x)) for x in np.asarray(array, dtype=np.float32).ravel()]


def ratio(got, want):
    """The worst difference, in units of 1e-4 of the standard deviation of want.

    1 is the limit of the engine's tests: controls have to be far above it.
    """
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    return np.abs(got - want).max() / (1e-4 * want.std())
