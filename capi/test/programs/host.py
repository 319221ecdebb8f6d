"""Uses libmlxr from a host that is neither Go nor C: python3 host.py LIBRARY MODEL

The structs mirror mlxr.h. Prints the ranking as JSON.
"""

import ctypes
import json
import sys
import threading
from ctypes import POINTER, Structure, byref, c_char_p, c_double, c_float, c_int32, c_int64, c_void_p


class Text(Structure):
    _fields_ = [("data", c_char_p), ("bytes", c_int64)]


class Options(Structure):
    _fields_ = [
        ("size", c_int64),
        *[(name, Text) for name in ("model", "adapter", "label", "library")],
        *[(name, c_int32) for name in ("device", "dtype", "scores", "max_length", "threads", "log_level")],
        *[(name, c_int64) for name in ("cache_limit", "memory_limit", "idle_unload_ms")],
        ("log", c_void_p),
        ("log_context", c_void_p),
    ]


class Ranked(Structure):
    _fields_ = [("index", c_int64), ("score", c_float), ("logit", c_float)]


class Figures(Structure):
    _fields_ = [
        ("size", c_int64),
        *[(name + "_ms", c_double) for name in ("latency", "inference", "tokenization", "queue_wait", "other")],
        *[(name, c_int64) for name in ("pairs", "truncated", "tokens")],
    ]


def text(value):
    data = value.encode()
    return Text(data, len(data))


def expect(library, ranker, status, wanted=0):
    if status != wanted:
        message = ctypes.create_string_buffer(2048)
        library.mlxr_last_error(c_int64(ranker), message, c_int64(len(message)), None)
        raise SystemExit(f"status {status}, expected {wanted}: {message.value.decode()}")


def rank(library, ranker, query, documents):
    texts = (Text * len(documents))(*map(text, documents))
    ranked, figures = (Ranked * len(documents))(), Figures(ctypes.sizeof(Figures))
    status = library.mlxr_rerank(
        ranker, byref(text(query)), texts, c_int64(len(documents)), None,
        ranked, c_int64(len(ranked)), None, byref(figures),
    )  # fmt: skip
    expect(library, ranker.value, status)
    assert figures.pairs == len(documents) and figures.latency_ms > 0
    return [(item.index, item.logit) for item in ranked]


def main():
    library = ctypes.CDLL(sys.argv[1])
    library.mlxr_rerank.argtypes = [
        c_int64, POINTER(Text), POINTER(Text), c_int64, c_void_p, POINTER(Ranked), c_int64, c_void_p, POINTER(Figures),
    ]  # fmt: skip
    assert library.mlxr_abi() == 1
    options, ranker = Options(ctypes.sizeof(Options), text(sys.argv[2])), c_int64()
    options.device = 2
    expect(library, 0, library.mlxr_open(byref(options), None, byref(ranker)))
    documents = ["A mail reader.", "An image editor.", "Schrödinger's 猫 \0 cat"]
    first = rank(library, ranker, "edit photos", documents)
    others = []
    threads = [threading.Thread(target=lambda: others.append(rank(library, ranker, "edit photos", documents))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert others == [first] * 16, others
    expect(library, 0, library.mlxr_close(ranker))
    expect(library, 0, library.mlxr_trim(ranker), wanted=2)
    print(json.dumps(first))


main()
