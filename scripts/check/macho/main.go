// Command macho prints as JSON what a Mach-O file, an executable or library of
// macOS, says about itself.
package main

import (
	"bytes"
	"debug/macho"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log"
	"os"
)

func main() {
	file, err := macho.Open(os.Args[1])
	if err != nil {
		log.Fatalf("%s: %v", os.Args[1], err)
	}
	minimum, uuid := "", ""
	name, dylibs, rpaths, exports := "", []string{}, []string{}, []string{}
	for _, load := range file.Loads {
		switch load := load.(type) {
		case *macho.Dylib:
			dylibs = append(dylibs, load.Name)
		case *macho.Rpath:
			rpaths = append(rpaths, load.Path)
		case macho.LoadBytes:
			switch file.ByteOrder.Uint32(load) {
			case 0xd: // LC_ID_DYLIB
				text, _, _ := bytes.Cut(load[file.ByteOrder.Uint32(load[8:]):], []byte{0})
				name = string(text)
			case 0x1b: // LC_UUID
				uuid = hex.EncodeToString(load[8:24])
			case 0x32: // LC_BUILD_VERSION
				version := file.ByteOrder.Uint32(load[12:])
				minimum = fmt.Sprintf("%d.%d", version>>16, version>>8&0xff)
			}
		}
	}
	for _, symbol := range file.Symtab.Syms {
		// External, not private, and defined.
		if symbol.Type&0x01 != 0 && symbol.Type&0x10 == 0 && symbol.Type&0x0e != 0 {
			exports = append(exports, symbol.Name)
		}
	}
	err = json.NewEncoder(os.Stdout).Encode(map[string]any{
		"kind": file.Cpu.String() + " " + file.Type.String(), "name": name, "dylibs": dylibs, "rpaths": rpaths, "exports": exports,
		"minimum": minimum, "uuid": uuid,
	})
	if err != nil {
		log.Fatal(err)
	}
}
