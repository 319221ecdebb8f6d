package scored

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/mlxrank/mlxrank/cli/internal/input"
	"github.com/mlxrank/mlxrank/cli/records"
)

// manifestVersion is the version of the JSON of Manifest.
const manifestVersion = 1

// maxManifest caps the bytes of a manifest, which usually has two thousand.
const maxManifest = 1 << 20

// A Kind names what the lines of a part are.
type Kind string

// The kinds.
const (
	OutputLines Kind = "lines"  // of the output
	RunRows     Kind = "rows"   // of records.Scored, for a TREC run
	ScoreColumn Kind = "scores" // of the rows of Parquet
)

// A Manifest is the last line of a part's file. It describes the part and what its
// scores depend on. It has no paths and no times, so that parts of several machines
// compare.
type Manifest struct {
	Version int            `json:"version"`
	Part    int            `json:"part"` // from 1
	Of      int            `json:"of"`
	Format  records.Format `json:"format"` // of the input
	Kind    Kind           `json:"kind"`
	RunTag  string         `json:"run_tag"`

	// Whole is the end of the input, which identifies it.
	Whole Place `json:"input"`
	Start Place `json:"start"` // of the part
	End   Place `json:"end"`

	Records   int       `json:"records"`
	Skipped   int       `json:"skipped"`
	Output    Digest    `json:"output"` // the lines before the manifest
	Settings  []Setting `json:"settings"`
	Processor string    `json:"processor"`
}

// A Place is a position in the input. Its offset counts bytes of the text, or rows of
// Parquet.
type Place struct {
	Offset int64 `json:"offset"`
	Lines  int   `json:"lines"`
	Sum    Sum   `json:"sha256"` // of the bytes before; of all bytes of Parquet
}

// A Digest identifies bytes.
type Digest struct {
	Bytes int64 `json:"bytes"`
	Sum   Sum   `json:"sha256"`
}

// A Sum is a SHA-256, in JSON as programs such as sha256sum print it.
type Sum []byte

// MarshalText returns the digits.
func (s Sum) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(s)), nil }

// UnmarshalText parses the digits.
func (s *Sum) UnmarshalText(text []byte) (err error) {
	*s, err = hex.DecodeString(string(text))
	return err
}

// Equal reports whether two places are the same.
func (p Place) Equal(other Place) bool {
	return p.Offset == other.Offset && p.Lines == other.Lines && bytes.Equal(p.Sum, other.Sum)
}

func (p Place) String() string {
	return fmt.Sprintf("offset %d (line %d) after SHA-256 %x", p.Offset, p.Lines, []byte(p.Sum))
}

func newPlace(p records.Position) Place { return Place{p.Offset, p.Line, p.Sum} }

// NewManifest returns the manifest of a part before it is scored.
func NewManifest(part input.Part, r input.Range) Manifest {
	return Manifest{
		Version: manifestVersion, Part: part.Number, Of: part.Of,
		Whole: newPlace(r.Whole), Start: newPlace(r.Start), End: newPlace(r.End),
	}
}

// named is the JSON of a manifest's line. The name shows a reader of the file what the
// line is.
type named struct {
	Manifest *Manifest `json:"mlxrank_part"`
}

// appendTo appends the line of the manifest.
func (m *Manifest) appendTo(dst []byte) ([]byte, error) {
	line, err := json.Marshal(named{m})
	return append(append(dst, line...), '\n'), err
}

// parseManifest parses the last line of a part's file.
func parseManifest(line []byte) (Manifest, error) {
	var n named
	if err := json.Unmarshal(line, &n); err != nil || n.Manifest == nil {
		return Manifest{}, errors.New("its last line is not the manifest of a part: the file is truncated, or mlxrank score --part did not write it")
	}
	m := *n.Manifest
	if m.Version != manifestVersion {
		return Manifest{}, fmt.Errorf("its manifest has version %d, expected %d; merge it with the version of mlxrank that wrote it", m.Version, manifestVersion)
	}
	if m.Of < 1 || m.Of > input.MaxParts || m.Part < 1 || m.Part > m.Of || m.Output.Bytes < 0 || m.Records < 0 || m.Skipped < 0 {
		return Manifest{}, errors.New("its manifest was edited: it has counts that no part has; score the part again")
	}
	switch m.Kind {
	case OutputLines, RunRows, ScoreColumn:
	default:
		return Manifest{}, fmt.Errorf("its manifest has lines of kind %q, expected %s, %s or %s", m.Kind, OutputLines, RunRows, ScoreColumn)
	}
	return m, nil
}

// ReadPart reads the file of a part, calls body with pieces of its lines, and returns its
// manifest. It checks that the lines are those that the manifest describes; before
// that, body may have received others. A piece is valid until body returns.
func ReadPart(r io.Reader, body func([]byte) error) (Manifest, error) {
	sum := newDigester()
	take := func(piece []byte) error {
		sum.add(piece)
		return body(piece)
	}
	var tail []byte // not given to body yet, since it may be the manifest
	buffer := make([]byte, 256<<10)
	for {
		n, err := r.Read(buffer)
		tail = append(tail, buffer[:n]...)
		if more := len(tail) - maxManifest; more >= maxManifest {
			if err := take(tail[:more]); err != nil {
				return Manifest{}, err
			}
			tail = tail[:copy(tail, tail[more:])]
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Manifest{}, err
		}
	}
	lines, ended := bytes.CutSuffix(tail, []byte("\n"))
	last := bytes.LastIndexByte(lines, '\n') + 1
	m, err := parseManifest(lines[last:])
	if err != nil {
		return Manifest{}, err
	}
	if !ended {
		return Manifest{}, errors.New("it is truncated: its last line has no end; score the part again, or copy the file again")
	}
	if err := take(tail[:last]); err != nil {
		return Manifest{}, err
	}
	if got := sum.digest(); got.Bytes != m.Output.Bytes || !bytes.Equal(got.Sum, m.Output.Sum) {
		return Manifest{}, fmt.Errorf("it was edited or damaged: it has %d bytes with SHA-256 %x before the manifest, expected %d with %x; copy the file again, or score the part again",
			got.Bytes, []byte(got.Sum), m.Output.Bytes, []byte(m.Output.Sum))
	}
	return m, nil
}
