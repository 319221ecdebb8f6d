"""Checks that every function of a library clears the upper halves of vector registers that it wrote to.

upper_halves.py LIBRARY     Linux on x86_64; needs objdump

Code for AVX must end with vzeroupper. Otherwise SSE code, such as that of MLX's wheel, is many times
slower afterwards: in this thread, and in each thread that it starts.
"""

import platform
import re
import subprocess
import sys

FUNCTION = re.compile(r"^([0-9a-f]+) <(.*)>:$")
INSTRUCTION = re.compile(r"^\s+([0-9a-f]+):\s+(\S+)\s*([^#]*)")
# A register that the last operand names, with a mask after it or none. Of the 32, SSE code knows 16.
WRITTEN = re.compile(r"%[yz]mm([0-9]|1[0-5])\b(\{[^,]*\})*\s*$")
TARGET = re.compile(r"^([0-9a-f]+)\b")


def functions(lines):
    """The functions of a disassembly: each a name and its instructions, as (address, operation, operands)."""
    name, body = None, []
    for line in lines:
        if head := FUNCTION.match(line):
            if name:
                yield name, body
            name, body = head[2], []
        elif name and (found := INSTRUCTION.match(line)):
            body.append((int(found[1], 16), found[2], found[3].strip()))
    if name:
        yield name, body


def dirty_returns(body):
    """The addresses at which a function returns, on some path, after writing to an upper half.

    A call is taken to change nothing: a callee that clears them does not excuse the caller.
    """
    index = {address: i for i, (address, _, _) in enumerate(body)}
    seen, paths, found = set(), [(0, False)], set()
    while paths:
        i, dirty = paths.pop()
        while i < len(body) and (i, dirty) not in seen:
            seen.add((i, dirty))
            address, operation, operands = body[i]
            if operation in ("vzeroupper", "vzeroall"):
                dirty = False
            elif operation.startswith("v") and WRITTEN.search(operands):
                dirty = True
            elif operation.startswith("j"):
                to = TARGET.match(operands)
                to = index.get(int(to[1], 16)) if to else None
                if to is not None:
                    paths.append((to, dirty))
                elif dirty and operation == "jmp":
                    found.add(address)
                if operation == "jmp":
                    break
            elif operation.startswith("ret") or operands == "ret":
                if dirty:
                    found.add(address)
                break
            i += 1
    return sorted(found)


def main():
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return
    library = sys.argv[1]
    out = subprocess.run(["objdump", "-d", "-C", "--no-show-raw-insn", library], check=True, capture_output=True, text=True)
    every = list(functions(out.stdout.splitlines()))
    clear = sum(any(operation == "vzeroupper" for _, operation, _ in body) for _, body in every)
    if clear == 0:
        sys.exit(f"{library}: no function has vzeroupper; expected the kernels for AVX")
    bad = [(name, found) for name, body in every if (found := dirty_returns(body))]
    for name, found in bad:
        print(f"{library}: {name} returns at {', '.join(map(hex, found))} without vzeroupper", file=sys.stderr)
    if bad:
        sys.exit("add a compiler option in native/CMakeLists.txt, beside -fno-ipa-ra, or vzeroupper before the return")
    print(f"{clear} functions clear the upper halves of vector registers")


if __name__ == "__main__":
    main()
