package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/input"
	"github.com/mlxrank/mlxrank/cli/records"
	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/fleet"
)

// The bounds of a part's size. A part should take a worker about half a minute: shorter
// parts cost messages, and longer ones keep the last workers waiting for one.
const (
	minPart   = 256
	maxPart   = 4096
	goodParts = 200     // for small jobs
	partBytes = 8 << 20 // of text
)

// canaryPairs is how many pairs admit a worker.
const canaryPairs = 16

// canary scores pairs from the whole input, the job's canary. It also counts the pairs.
func (r *submission) canary(ctx context.Context, local *backend) (fleet.Canary, int, error) {
	again, err := r.pairs.Again(ctx)
	if err != nil {
		return fleet.Canary{}, 0, err
	}
	defer again.Close() //nolint:errcheck // it was only read
	reader, err := again.Reader()
	if err != nil {
		return fleet.Canary{}, 0, err
	}
	var canary fleet.Canary
	count, every := 0, max(r.survey.Records/canaryPairs, 1)
	for chunks := input.NewChunks(reader); ; {
		chunk, err := chunks.Next()
		if err != nil {
			return fleet.Canary{}, 0, err
		}
		if len(chunk) == 0 {
			break
		}
		for _, pair := range chunk.Pairs() {
			if count%every == 0 && len(canary.Pairs) < canaryPairs {
				canary.Pairs = append(canary.Pairs, pair)
			}
			count++
		}
	}
	// A job without pairs still needs a canary.
	if len(canary.Pairs) == 0 {
		canary.Pairs = []engine.Pair{{Query: "resize photos", Document: "An image editor."}}
	}
	scores, err := local.Score(ctx, canary.Pairs)
	if err != nil {
		return fleet.Canary{}, 0, fmt.Errorf("score the canary: %w", err)
	}
	for i := len(scores) - 1; i >= 0; i-- {
		if scores[i].Err != "" && len(canary.Pairs) > 1 {
			canary.Pairs, scores = slices.Delete(canary.Pairs, i, i+1), slices.Delete(scores, i, i+1)
		}
	}
	canary.Scores = scores
	return canary, count, nil
}

// A cutter cuts an input into parts: the same ones each time.
type cutter struct {
	chunks *input.Chunks
	size   int // least records of a part
}

// cut returns a cutter of the input.
func (r *submission) cut(reader *records.Reader) *cutter {
	size := r.size
	if size == 0 {
		size = min(max(r.job.Input.Pairs/goodParts, minPart), maxPart)
	}
	c := &cutter{chunks: input.NewChunks(reader), size: size}
	c.chunks.Fixed(r.exact, r.job.Settings.MaxLength, r.long, size)
	return c
}

// next returns the chunks of the next part, none at the end.
func (c *cutter) next() ([]input.Chunk, error) {
	var part []input.Chunk
	records, bytes := 0, 0
	for records < c.size && bytes < partBytes {
		chunk, err := c.chunks.Next()
		if err != nil {
			return nil, err
		}
		if len(chunk) == 0 {
			break
		}
		part = append(part, chunk)
		records += len(chunk)
		for i := range chunk {
			bytes += len(chunk[i].Query) + len(chunk[i].Document)
		}
	}
	return part, nil
}

func pairsOf(part []input.Chunk) [][]engine.Pair {
	pairs := make([][]engine.Pair, len(part))
	for i, chunk := range part {
		pairs[i] = chunk.Pairs()
	}
	return pairs
}

// upload adds the parts that the server lacks, and sends all parts in order.
func (r *submission) upload(ctx context.Context, parts chan<- fleet.Part) error {
	if r.job.State == fleet.Open {
		return r.sendManifest(ctx, parts)
	}
	again, err := r.pairs.Again(ctx)
	if err != nil {
		return err
	}
	defer again.Close() //nolint:errcheck // it was only read
	reader, err := again.Reader()
	if err != nil {
		return err
	}
	job := *r.job // the uploader changes its state
	uploader, err := r.fleet.Uploader(ctx, &job)
	if err != nil {
		return err
	}
	uploader.Full = func() { r.log.Warn().Msg("the server's store is nearly full; the upload waits for workers") }
	from := int64(0)
	for cutter := r.cut(reader); ; {
		part, err := cutter.next()
		if err != nil {
			return err
		}
		if len(part) == 0 {
			break
		}
		to := reader.Position().Offset
		if err := uploader.Add(ctx, pairsOf(part), from, to); err != nil {
			return err
		}
		from = to
		select {
		case parts <- uploader.Parts()[len(uploader.Parts())-1]:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if found := fmt.Sprintf("%x", reader.Position().Sum); found != r.job.Input.SHA256 {
		return fmt.Errorf("read %s: %w", r.pairs.Name, errChanged)
	}
	return uploader.Seal(ctx)
}

// sendManifest sends the parts of a job that was uploaded before, and queues those that
// the queue has lost.
func (r *submission) sendManifest(ctx context.Context, parts chan<- fleet.Part) error {
	all, err := r.fleet.Manifest(ctx, r.job)
	if err != nil {
		return err
	}
	if err := r.fleet.Rebuild(ctx, r.job, false); err != nil {
		return err
	}
	for _, part := range all {
		select {
		case parts <- part:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// arguments are the flags of submit, for attach.
type arguments struct {
	Flags []string `json:"flags"`
	Exact bool     `json:"exact"` // a pair's score does not depend on its batch
	Host  string   `json:"host"`
}

// fileFlags name files, which attach may look for from another folder.
var fileFlags = []string{"input", "output", "queries", "documents", "calibration", "adapter", "config"}

// keptArguments returns the given flags, without the flags of the connection.
func keptArguments(c *cli.Context, exact bool) (json.RawMessage, error) {
	kept := arguments{Exact: exact, Host: hostName()}
	for _, flag := range c.Command.Flags {
		name := flag.Names()[0]
		if !c.IsSet(name) || slices.ContainsFunc(joinFlags(), func(f cli.Flag) bool { return f.Names()[0] == name }) || name == "quiet" {
			continue
		}
		value := fmt.Sprint(c.Value(name))
		if slices.Contains(fileFlags, name) && value != "-" {
			found, err := filepath.Abs(value)
			if err != nil {
				return nil, err
			}
			value = found
		}
		kept.Flags = append(kept.Flags, "--"+name+"="+value)
	}
	return json.Marshal(kept)
}

// readArguments returns what keptArguments kept.
func readArguments(job *fleet.Job) (arguments, error) {
	var kept arguments
	if err := json.Unmarshal(job.Submitter, &kept); err != nil || len(kept.Flags) == 0 {
		return kept, errors.Join(fmt.Errorf("job %s was not submitted by mlxrank fleet submit", job.ID), err)
	}
	return kept, nil
}
