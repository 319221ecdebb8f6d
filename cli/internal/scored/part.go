package scored

import (
	"crypto/sha256"
	"hash"
	"io"

	"github.com/mlxrank/mlxrank/cli/records"
)

// A part is an output that holds the lines of a part of the input, and then the
// manifest of the part. One file per part describes itself wherever it is copied.
type part struct {
	Destination
	manifest Manifest
	sum      *digester
}

// NewPart makes out the output of a part.
func NewPart(out Destination, m Manifest) Destination {
	return &part{out, m, newDigester()}
}

func (p *part) Begin(settings []Setting) (State, error) {
	earlier, err := p.Destination.Begin(settings)
	if err != nil {
		return State{}, err
	}
	p.count(earlier.Tally)
	if earlier.Output.Bytes == 0 {
		return earlier, nil
	}
	// An earlier run wrote the first lines.
	out := p.Destination.(*partial)
	kept := records.Decompress(io.NewSectionReader(out.file, 0, earlier.Output.Bytes))
	if _, err := io.Copy(p.sum, kept); err != nil {
		return State{}, out.wrap(err)
	}
	return earlier, nil
}

func (p *part) count(n Tally) { p.manifest.Records, p.manifest.Skipped = n.Records, n.Skipped }

func (p *part) WriteChunk(lines []byte, at Position, counts Tally) error {
	p.sum.add(lines)
	p.count(counts)
	return p.Destination.WriteChunk(lines, at, counts)
}

func (p *part) Commit() error {
	p.manifest.Output = p.sum.digest()
	line, err := p.manifest.appendTo(nil)
	if err != nil {
		return err
	}
	switch out := p.Destination.(type) {
	case *partial:
		return out.commitWith(line)
	case *stream:
		if _, err := out.Writer.Write(line); err != nil {
			return out.wrap(err)
		}
	}
	return p.Destination.Commit()
}

// commitWith commits the file with more at its end. If that fails, another run resumes
// without it.
func (p *partial) commitWith(more []byte) error {
	before := p.state.Output
	err := p.add(more)
	if err == nil {
		err = p.Commit()
	}
	if err != nil {
		p.state.Output = before
	}
	return err
}

// A digester computes a Digest.
type digester struct {
	hash  hash.Hash
	bytes int64
}

func newDigester() *digester { return &digester{hash: sha256.New()} }

func (d *digester) add(p []byte) {
	d.hash.Write(p)
	d.bytes += int64(len(p))
}

// Write adds p; it is for io.Copy.
func (d *digester) Write(p []byte) (int, error) {
	d.add(p)
	return len(p), nil
}

func (d *digester) digest() Digest { return Digest{d.bytes, d.hash.Sum(nil)} }
