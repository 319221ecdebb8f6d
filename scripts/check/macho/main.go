// Command macho prints as JSON what a Mach-O file, an executable or library of
// macOS, says about itself.
package main

import (
	"bytes"
	"debug/macho"
	"encoding/json"
	"log"
	"os"
)

func main() {
	file, err := macho.Open(os.Args[1])
	if err != nil {
		log.Fatalf("%s: %v", os.Args[1], err)
	}
	name, dylibs, rpaths, exports := "", []string{}, []string{}, []string{}
	for _, load := range file.Loads {
		switch load := load.(type) {
		case *macho.Dylib:
			dylibs = append(dylibs, load.Name)
		case *macho.Rpath:
			rpaths = append(rpaths, load.Path)
		case macho.LoadBytes:
			if file.ByteOrder.Uint32(load) == 0xd { // LC_ID_DYLIB
				text, _, _ := bytes.Cut(load[file.ByteOrder.Uint32(load[8:]):], []byte{0})
				name = string(text)
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
	})
	if err != nil {
		log.Fatal(err)
	}
}
