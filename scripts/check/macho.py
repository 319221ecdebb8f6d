"""Reads what a Mach-O file (macOS's executables and libraries) says of itself."""

import struct

MAGIC_64, ARM64 = 0xFEEDFACF, 0x0100000C
EXECUTABLE, DYLIB = 2, 6
LC_SYMTAB, LC_LOAD_DYLIB, LC_ID_DYLIB, LC_RPATH = 0x2, 0xC, 0xD, 0x8000001C
N_EXT, N_PEXT, N_TYPE = 0x01, 0x10, 0x0E


class MachO:
    """The architecture, kind, libraries, run paths and exports of a file."""

    def __init__(self, path):
        self.data = path.read_bytes()
        magic, self.cpu, _, self.kind, commands = self._read("<5I", 0)
        if magic != MAGIC_64:
            raise ValueError(f"{path} is not a 64-bit Mach-O file")
        self.name, self.dylibs, self.rpaths, self.exports = "", [], [], set()
        offset = 32
        for _ in range(commands):
            command, size = self._read("<2I", offset)
            if command == LC_LOAD_DYLIB:
                self.dylibs.append(self._string(offset))
            elif command == LC_ID_DYLIB:
                self.name = self._string(offset)
            elif command == LC_RPATH:
                self.rpaths.append(self._string(offset))
            elif command == LC_SYMTAB:
                self.exports = set(self._exports(*self._read("<4I", offset + 8)))
            offset += size

    def _read(self, layout, offset):
        return struct.unpack_from(layout, self.data, offset)

    def _text(self, start):
        return self.data[start : self.data.index(b"\0", start)].decode()

    def _string(self, offset):
        """The string of a load command, whose third word says where it is."""
        return self._text(offset + self._read("<I", offset + 8)[0])

    def _exports(self, symbols, count, strings, _):
        for index in range(count):
            name, kind = self._read("<IB", symbols + 16 * index)
            if kind & N_EXT and not kind & N_PEXT and kind & N_TYPE:
                yield self._text(strings + name)
