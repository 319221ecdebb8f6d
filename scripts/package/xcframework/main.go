// Command xcframework writes the libraries for macOS as XCFrameworks, for
// scripts/package/xcframework.py.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/mlxrank/mlxrank/internal/bundle"
)

func main() {
	from := flag.String("from", "build", "folder of the libraries: a release, an installation prefix, or a build folder")
	to := flag.String("to", "", "folder for the XCFrameworks, which must not contain them yet")
	version := flag.String("version", "", "version of the frameworks")
	flag.Parse()
	source, err := bundle.FindSource([]string{*from})
	if err == nil {
		err = source.WriteXCFrameworks(*to, "capi/mlxr.h", *version)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "xcframework:", err)
		os.Exit(1)
	}
}
