package bundle

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// Version is a version of macOS or of Metal.
type Version struct{ Major, Minor, Patch int }

// nax is the first macOS for which MLX has kernels for the matrix units of M5.
var nax = Version{26, 2, 0}

// parseVersion parses one to three numbers, as in LSMinimumSystemVersion.
func parseVersion(text string) (Version, error) {
	parts := strings.Split(text, ".")
	var numbers [3]int
	if len(parts) > len(numbers) {
		return Version{}, fmt.Errorf("%q is not a version of macOS, expected one like 14.0", text)
	}
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, 16)
		if err != nil {
			return Version{}, fmt.Errorf("%q is not a version of macOS, expected one like 14.0", text)
		}
		numbers[i] = int(n)
	}
	return Version{numbers[0], numbers[1], numbers[2]}, nil
}

// packedVersion unpacks a version of a load command: 16 bits, 8 bits and 8 bits.
func packedVersion(v uint32) Version {
	return Version{int(v >> 16), int(v >> 8 & 0xff), int(v & 0xff)}
}

func (v Version) String() string {
	if v.Patch == 0 {
		return fmt.Sprintf("%d.%d", v.Major, v.Minor)
	}
	return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch)
}

// Less reports whether v is before other.
func (v Version) Less(other Version) bool {
	return cmp.Or(cmp.Compare(v.Major, other.Major), cmp.Compare(v.Minor, other.Minor), cmp.Compare(v.Patch, other.Patch)) < 0
}
