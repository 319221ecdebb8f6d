package scored

import "math"

// Kept returns how many records of an output are on the disk, so that another run need
// not score them again. What a stream was given is its reader's.
func Kept(out Destination) int {
	switch o := out.(type) {
	case *partial:
		return max(o.kept, 0)
	case *finishedFile:
		return max(o.kept, 0)
	}
	return math.MaxInt
}
