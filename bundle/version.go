package bundle

import (
	"fmt"
	"strconv"
	"strings"
)

// Version is a version of macOS.
type Version struct{ Major, Minor, Patch int }

// nax is the macOS from which on MLX has kernels for the matrix units of M5.
var nax = Version{26, 2, 0}

// parseVersion reads one to three numbers, as LSMinimumSystemVersion has them.
func parseVersion(text string) (Version, error) {
	parts := strings.Split(text, ".")
	var numbers [3]int
	if len(parts) > len(numbers) {
		return Version{}, fmt.Errorf("%q is no version of macOS, such as 14.0", text)
	}
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, 16)
		if err != nil {
			return Version{}, fmt.Errorf("%q is no version of macOS, such as 14.0", text)
		}
		numbers[i] = int(n)
	}
	return Version{numbers[0], numbers[1], numbers[2]}, nil
}

// packedVersion reads the form of load commands: 16 bits, 8 and 8.
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
	if v.Major != other.Major {
		return v.Major < other.Major
	}
	if v.Minor != other.Minor {
		return v.Minor < other.Minor
	}
	return v.Patch < other.Patch
}
