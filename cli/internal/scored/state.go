package scored

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/mlxrank/mlxrank/cli/records"
)

// stateVersion is the version of the JSON of State.
const stateVersion = 1

// maxState caps the bytes of a state file, which usually has a hundred short lines.
const maxState = 16 << 20

// State records how far a run came: where the next chunk of the input begins, and how
// much output the chunks before it have. It is kept in a file next to the partial
// output, so that another run can resume.
type State struct {
	Version  int       `json:"version"`
	Settings []Setting `json:"settings"`
	Input    Position  `json:"input"`
	Output   Stretch   `json:"output"`
	Tally
}

// A Setting is a value that the output depends on. A run resumes only with the settings
// that it started with.
type Setting struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// A Tally counts the records that a run has processed.
type Tally struct {
	Records int `json:"records"`
	Skipped int `json:"skipped"` // the part of Records that could not be scored
}

// A Position is an end of a chunk in the input.
type Position struct {
	Stretch
	Lines int `json:"lines"`
}

// A Stretch identifies the first bytes of a file.
type Stretch struct {
	Bytes int64  `json:"bytes"`
	Sum   []byte `json:"sha256"`
}

// NewPosition returns the state's form of a position of the reader.
func NewPosition(p records.Position) Position {
	return Position{Stretch{p.Offset, p.Sum}, p.Line}
}

// Reader returns the reader's form of the position.
func (p Position) Reader() records.Position {
	return records.Position{Offset: p.Bytes, Line: p.Lines, Sum: p.Sum}
}

// errNoSum reports a state that cannot be compared with its files.
var errNoSum = errors.New("it lacks a SHA-256")

// parseState reads and checks the JSON of a state.
func parseState(data []byte) (State, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	var s State
	if err := decoder.Decode(&s); err != nil {
		return State{}, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return State{}, errors.New("it has more than one JSON value")
	}
	if s.Version != stateVersion {
		return State{}, fmt.Errorf("its version is %d, expected %d", s.Version, stateVersion)
	}
	for _, n := range []int64{s.Input.Bytes, int64(s.Input.Lines), s.Output.Bytes, int64(s.Records), int64(s.Skipped)} {
		if n < 0 {
			return State{}, fmt.Errorf("it has the count %d; expected 0 or more", n)
		}
	}
	for _, sum := range [][]byte{s.Input.Sum, s.Output.Sum} {
		if len(sum) != sha256.Size {
			return State{}, fmt.Errorf("%w of %d bytes: it has %d", errNoSum, sha256.Size, len(sum))
		}
	}
	return s, nil
}

// A Difference is a setting with two values.
type Difference struct{ Name, Was, Is string }

// Differences describes the settings that changed.
func Differences(was, is []Setting) []string {
	var found []string
	for _, d := range Differing(was, is) {
		found = append(found, fmt.Sprintf("%s was %s and is %s", d.Name, d.Was, d.Is))
	}
	return found
}

// Differing returns the settings that differ.
func Differing(was, is []Setting) []Difference {
	value := func(list []Setting, name string) string {
		i := slices.IndexFunc(list, func(s Setting) bool { return s.Name == name })
		if i < 0 {
			return "not there"
		}
		return list[i].Value
	}
	var found []Difference
	seen := make(map[string]bool)
	for _, s := range slices.Concat(was, is) {
		if old, now := value(was, s.Name), value(is, s.Name); old != now && !seen[s.Name] {
			found = append(found, Difference{s.Name, old, now})
			seen[s.Name] = true
		}
	}
	return found
}
