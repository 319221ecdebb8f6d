package score

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

// stateVersion is the version of the JSON of state.
const stateVersion = 1

// maxState caps the bytes of a state file, which usually has a hundred short lines.
const maxState = 16 << 20

// state records how far a run came: where the next chunk of the input begins, and how
// much output the chunks before it have. It is kept in a file next to the partial
// output, so that another run can resume.
type state struct {
	Version  int       `json:"version"`
	Settings []setting `json:"settings"`
	Input    position  `json:"input"`
	Output   stretch   `json:"output"`
	tally
}

// setting is a value that the output depends on. A run resumes only with the settings
// that it started with.
type setting struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// tally counts the records that a run has processed.
type tally struct {
	Records int `json:"records"`
	Skipped int `json:"skipped"` // the part of Records that could not be scored
}

// position is an end of a chunk in the input.
type position struct {
	stretch
	Lines int `json:"lines"`
}

// stretch identifies the first bytes of a file.
type stretch struct {
	Bytes int64  `json:"bytes"`
	Sum   []byte `json:"sha256"`
}

// newPosition returns the state's form of a position of the reader.
func newPosition(p records.Position) position {
	return position{stretch{p.Offset, p.Sum}, p.Line}
}

func (p position) reader() records.Position {
	return records.Position{Offset: p.Bytes, Line: p.Lines, Sum: p.Sum}
}

// errNoSum reports a state that cannot be compared with its files.
var errNoSum = errors.New("it lacks a SHA-256")

// parseState reads and checks the JSON of a state.
func parseState(data []byte) (state, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	var s state
	if err := decoder.Decode(&s); err != nil {
		return state{}, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return state{}, errors.New("it has more than one JSON value")
	}
	if s.Version != stateVersion {
		return state{}, fmt.Errorf("its version is %d, expected %d", s.Version, stateVersion)
	}
	for _, n := range []int64{s.Input.Bytes, int64(s.Input.Lines), s.Output.Bytes, int64(s.Records), int64(s.Skipped)} {
		if n < 0 {
			return state{}, fmt.Errorf("it has the count %d; expected 0 or more", n)
		}
	}
	for _, sum := range [][]byte{s.Input.Sum, s.Output.Sum} {
		if len(sum) != sha256.Size {
			return state{}, fmt.Errorf("%w of %d bytes: it has %d", errNoSum, sha256.Size, len(sum))
		}
	}
	return s, nil
}

// differences describes the settings that changed.
func differences(was, is []setting) []string {
	value := func(list []setting, name string) string {
		i := slices.IndexFunc(list, func(s setting) bool { return s.Name == name })
		if i < 0 {
			return "not there"
		}
		return list[i].Value
	}
	var found []string
	seen := make(map[string]bool)
	for _, s := range slices.Concat(was, is) {
		if old, now := value(was, s.Name), value(is, s.Name); old != now && !seen[s.Name] {
			found = append(found, fmt.Sprintf("%s was %s and is %s", s.Name, old, now))
			seen[s.Name] = true
		}
	}
	return found
}
