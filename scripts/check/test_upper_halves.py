"""Tests upper_halves.py on the ways in which functions end."""

import unittest

from .upper_halves import dirty_returns, functions

CLEAN = """
0000000000001000 <clean>:
    1000:\tvmovups (%rdi),%zmm0
    1006:\tje     1010 <clean+0x10>
    1008:\tvaddps %zmm0,%zmm1,%zmm2{%k1}{z}
    100e:\tjmp    1006 <clean+0x6>
    1010:\tvmovups %zmm0,(%rsi)        # 286e40 <a table>
    1016:\tvzeroupper
    1019:\tret
"""
# As GCC 12 compiles it: the call leaves the registers as they are, and the way back misses vzeroupper.
AROUND = """
0000000000002000 <around>:
    2000:\tvpbroadcastd %eax,%ymm5
    2006:\tjg     2010 <around+0x10>
    2008:\tvzeroupper
    200b:\tret
    2010:\tcall   3000 <callee>
    2015:\tjmp    200b <around+0xb>
"""
TAIL = """
0000000000003000 <tail>:
    3000:\tvmovups (%rdi),%ymm15
    3006:\tjmp    1000 <clean>
"""
TWO_BYTES = """
0000000000005000 <two_bytes>:
    5000:\tvmovups (%rdi),%ymm15
    5006:\trepz ret
"""
# SSE code does not know these registers, and these instructions clear or keep the upper halves.
HARMLESS = """
0000000000004000 <harmless>:
    4000:\tvmovups (%rdi),%zmm16
    4006:\tvaddss %xmm1,%xmm2,%xmm3
    400a:\tvmovups %ymm4,(%rdi)
    400e:\taddps  %xmm1,%xmm2
    4012:\tret
"""


class UpperHalves(unittest.TestCase):
    def test_dirty_returns(self):
        for text, want in ((CLEAN, []), (AROUND, [0x200B]), (TAIL, [0x3006]), (TWO_BYTES, [0x5006]), (HARMLESS, [])):
            for name, body in functions(text.splitlines()):
                with self.subTest(name):
                    self.assertEqual(dirty_returns(body), want)

    def test_functions(self):
        found = dict(functions((CLEAN + AROUND + TAIL).splitlines()))
        self.assertEqual([len(body) for body in found.values()], [7, 6, 2])
        self.assertEqual(found["clean"][4], (0x1010, "vmovups", "%zmm0,(%rsi)"))
