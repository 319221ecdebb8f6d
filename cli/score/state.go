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

// stateVersion is that of the layout of state.
const stateVersion = 1

// maxState bounds a state file: a hundred short lines are usual.
const maxState = 16 << 20

// state is how far a run is: where the next window of its input begins, and
// what its partial output holds of those before. It is kept in a file beside the
// partial output, so that another run can go on.
type state struct {
	Version  int       `json:"version"`
	Settings []setting `json:"settings"`
	Input    position  `json:"input"`
	Output   stretch   `json:"output"`
	tally
}

// A setting is something that the output depends on. A run goes on only with
// what it began with.
type setting struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// tally counts the records behind a run.
type tally struct {
	Records int `json:"records"`
	Skipped int `json:"skipped"` // of those, not scored
}

type position struct {
	stretch
	Lines int `json:"lines"`
}

// stretch is the beginning of a file.
type stretch struct {
	Bytes int64  `json:"bytes"`
	Sum   []byte `json:"sha256"`
}

// at is a position of the input as its reader gives it.
func at(p records.Position) position {
	return position{stretch{p.Offset, p.Sum}, p.Line}
}

func (p position) reader() records.Position {
	return records.Position{Offset: p.Bytes, Line: p.Lines, Sum: p.Sum}
}

// parseState reads a state as it was written.
func parseState(data []byte) (state, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	var s state
	if err := decoder.Decode(&s); err != nil {
		return state{}, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return state{}, errors.New("something follows the object")
	}
	if s.Version != stateVersion {
		return state{}, fmt.Errorf("its version is %d, not %d", s.Version, stateVersion)
	}
	for _, n := range []int64{s.Input.Bytes, int64(s.Input.Lines), s.Output.Bytes, int64(s.Records), int64(s.Skipped)} {
		if n < 0 {
			return state{}, fmt.Errorf("a count is %d", n)
		}
	}
	for _, sum := range [][]byte{s.Input.Sum, s.Output.Sum} {
		if len(sum) != sha256.Size {
			return state{}, fmt.Errorf("a SHA-256 has %d bytes, not %d", len(sum), sha256.Size)
		}
	}
	return s, nil
}

// differences returns which settings changed.
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
