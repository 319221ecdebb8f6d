"""The peak rate of GEMMs on this machine: gemm.py LIBRARY.

Answers each line of input by the rate of one large square GEMM: float32 by the
OpenBLAS that mlxrank runs on, one thread per core, each with a product of its own;
and by PyTorch, float32 and bfloat16, with as many threads.
"""

import ctypes
import sys
import threading
import time

import numpy as np
import protocol
import torch

SIZE, TIMES = 1536, 3
ROW_MAJOR, NO_TRANSPOSE = 101, 111


def openblas(path):
    library = ctypes.CDLL(path)
    library.openblas_set_num_threads(1)
    pointer, integer, real = ctypes.c_void_p, ctypes.c_int, ctypes.c_float
    library.cblas_sgemm.argtypes = [integer] * 6 + [real, pointer, integer, pointer, integer, real, pointer, integer]
    library.cblas_sgemm.restype = None
    random = np.random.default_rng(1)
    matrices = [[random.standard_normal((SIZE, SIZE), np.float32) for _ in range(3)] for _ in range(protocol.CORES)]

    def product(a, b, c):
        for _ in range(TIMES):
            library.cblas_sgemm(
                ROW_MAJOR,
                NO_TRANSPOSE,
                NO_TRANSPOSE,
                SIZE,
                SIZE,
                SIZE,
                1.0,
                a.ctypes.data,
                SIZE,
                b.ctypes.data,
                SIZE,
                0.0,
                c.ctypes.data,
                SIZE,
            )

    def run():
        threads = [threading.Thread(target=product, args=each) for each in matrices]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    product(*matrices[0])
    a, b, c = matrices[0]
    if not np.allclose(c, a @ b, atol=1e-2):
        raise SystemExit(f"peers: {path} multiplies wrongly")
    return lambda: protocol.CORES * TIMES * rate(run)


def pytorch(dtype):
    torch.set_num_threads(protocol.CORES)
    a = torch.randn(SIZE, SIZE).to(dtype)
    return lambda: TIMES * rate(lambda: [a @ a for _ in range(TIMES)])


def rate(function):
    start = time.perf_counter()
    function()
    return 2 * SIZE**3 / (time.perf_counter() - start)


peaks = {"OpenBLAS float32": openblas(sys.argv[1]), "PyTorch float32": pytorch(torch.float32), "PyTorch bfloat16": pytorch(torch.bfloat16)}
protocol.answer({"ready": True})
for _ in sys.stdin:
    protocol.answer({name: peak() for name, peak in peaks.items()})
