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

// Discard ends an output that was not committed, and removes what a file has of it.
func Discard(out Destination) error {
	switch o := out.(type) {
	case *partial:
		return o.discard()
	case *finishedFile:
		return o.discard()
	}
	return out.Close(nil)
}
