package model

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/eval"
	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/output"
	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/internal/atomicfile"
	"github.com/mlxrank/mlxrank/weights"
)

// lossLength is the maximum length of the pairs that the loss is measured on, as in
// mlxrank eval --demo.
const lossLength = 128

func modelQuantizeCommand(s command.Streams) *cli.Command {
	return &cli.Command{
		Name:      "quantize",
		Usage:     "write a copy of a model with weights of 8 or 4 bits",
		UsageText: "mlxrank model quantize --model MODEL [--adapter DIR] [--bits 8|4] [--group-size 32|64] OUTDIR",
		Description: "Writes the model to the new directory OUTDIR in the format of MLX, which Python's mlx\n" +
			"reads too. The encoder's linear layers and the word embeddings have weights of 8 or 4\n" +
			"bits. A group of weights shares a scale and a bias in float16. Everything else stays\n" +
			"as it is. An adapter is merged first.\n\n" +
			"Then the loss is measured: the original in float32 and the copy score the same pairs\n" +
			"of the collection of mlxrank eval --demo. The figures are printed, and they are in\n" +
			"README.md of OUTDIR. OUTDIR appears when everything is written.\n\n" +
			"A copy opens at once. With --dtype int8w or int4w, mlxrank makes the small weights\n" +
			"whenever it opens the model, for 4 bits by a search that takes 20 times as long.\n" +
			"A model of small weights is refused: quantize the original.\n\n" +
			command.Examples(
				[2]string{"Make a small copy and use it", "mlxrank model quantize --model BAAI/bge-reranker-v2-m3 ./bge-int8w && mlxrank serve --model ./bge-int8w"},
				[2]string{"Use 4 bits with many scales, and measure on 10 queries only", "mlxrank model quantize --model builtin --bits 4 --group-size 32 --queries 10 ./builtin-int4w"},
			),
		Flags: append([]cli.Flag{
			&cli.IntFlag{Name: "bits", Value: 8, Usage: "`BITS` of a weight, 8 or 4"},
			&cli.IntFlag{Name: "group-size", DefaultText: "64 if it divides all rows, else 32", Usage: "`N` weights that share a scale, 32 or 64"},
			&cli.IntFlag{Name: "queries", DefaultText: "all 81", Usage: "`N` queries of 20 pairs to measure the loss on"},
			command.QuietFlag(),
		}, command.SomeEngineFlags(weights.Default, "model", "adapter", "device", "threads", "log-level", "log-format", "library", "config")...),
		Action: func(c *cli.Context) error { return modelQuantize(c, s) },
	}
}

// A quantizing is one run of model quantize.
type quantizing struct {
	dir, temp string
	lock      *flock.Flock  // of temp
	config    engine.Config // of the original
	format    weights.WeightFormat
	group     int
	queries   int
	notices   command.Notices
}

func modelQuantize(c *cli.Context, s command.Streams) (err error) {
	q, err := newQuantizing(c, s)
	if err != nil {
		return err
	}
	// Nothing is left of a run that fails. A run that succeeds has renamed it.
	defer func() { err = errors.Join(err, os.RemoveAll(q.temp), q.lock.Close()) }()
	card, err := q.write(c.Context)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprint(s.Err, card.text()); err != nil {
		return err
	}
	_, err = fmt.Fprintln(s.Out, q.dir)
	return err
}

// newQuantizing checks the arguments and makes the temporary directory.
func newQuantizing(c *cli.Context, s command.Streams) (*quantizing, error) {
	if c.NArg() != 1 || c.Args().First() == "" {
		return nil, command.Usagef("model quantize needs one OUTDIR, as in mlxrank model quantize --model builtin ./builtin-int8w (see %s --help)", c.Command.HelpName)
	}
	q := &quantizing{dir: filepath.Clean(c.Args().First()), group: c.Int("group-size"), queries: c.Int("queries")}
	switch bits := c.Int("bits"); bits {
	case 8:
		q.format = weights.Int8Weights
	case 4:
		q.format = weights.Int4Weights
	default:
		return nil, command.Usagef("--bits is %d, expected 8 or 4", bits)
	}
	if c.IsSet("group-size") && q.group != 32 && q.group != 64 {
		return nil, command.Usagef("--group-size is %d, expected 32 or 64", q.group)
	}
	if c.IsSet("queries") && q.queries < 1 {
		return nil, command.Usagef("--queries is %d, expected at least 1", q.queries)
	}
	var err error
	if q.config, err = command.EngineConfig(c, s.Err); err != nil {
		return nil, err
	}
	q.config.DType = engine.Float32
	q.notices = command.NewNotices(c, s.Err, q.config.Logger)
	if _, err := os.Lstat(q.dir); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = fmt.Errorf("%s exists already; remove it or choose another OUTDIR", q.dir)
		}
		return nil, err
	}
	if err := q.removeAbandoned(); err != nil {
		return nil, err
	}
	return q, q.makeTemp()
}

// write writes the directory and returns its card.
func (q *quantizing) write(ctx context.Context) (*card, error) {
	card, err := q.writeModel(ctx)
	if err != nil {
		return nil, err
	}
	if card.after, card.bytesAfter, err = check(ctx, q.temp); err != nil {
		return nil, err
	}
	reference, small := q.config, q.config
	small.Model, small.Adapter, small.DType = q.temp, "", engine.DTypeAuto
	reference.MaxLength = min(lossLength, card.maxLength)
	small.MaxLength = reference.MaxLength
	if reference.Label = q.config.Label; card.labels > 1 {
		reference.Label, small.Label = "0", "0"
	}
	if card.loss, err = eval.MeasureLoss(ctx, reference, small, q.queries, q.notices); err != nil {
		return nil, fmt.Errorf("measure the loss: %w", err)
	}
	if err := atomicfile.Write(filepath.Join(q.temp, "README.md"), []byte(card.markdown()), 0o666); err != nil {
		return nil, err
	}
	if err := os.Rename(q.temp, q.dir); err != nil {
		return nil, err
	}
	return card, atomicfile.SyncFolder(q.dir)
}

// writeModel quantizes the model and writes its files to the temporary directory.
func (q *quantizing) writeModel(ctx context.Context) (_ *card, err error) {
	open := weights.Options{
		Adapter: q.config.Adapter, Weights: q.format, GroupSize: q.group,
		Progress: func(p weights.Progress) { q.config.Progress(engine.Download(p)) },
		Warn:     func(text string) { q.config.Logger.Warn().Msg(text) },
	}
	start := time.Now()
	m, err := weights.Open(ctx, q.config.Model, open)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	c := &card{
		model: publicName(m), adapter: m.Adapter, quantization: m.Quantization, parameters: m.Parameters,
		maxLength: m.MaxLength, labels: m.Config.Labels, before: time.Since(start), bytesBefore: sizeOf(m),
	}
	bar := q.notices.Progress("writing "+filepath.Base(q.dir), "MB", 0)
	defer bar.End()
	err = m.Write(q.temp, func(done, total int64) {
		bar.Set(int(done>>20), int(total>>20))
	})
	if err != nil {
		return nil, err
	}
	return c, ctx.Err()
}

// publicName returns the name of a model for a file that may be published: without the
// folders of this machine.
func publicName(m *weights.Model) string {
	if m.Ref == m.Dir {
		return baseName(m.Dir)
	}
	return m.Ref
}

// baseName returns the name of a directory, whatever path leads to it.
func baseName(dir string) string {
	if full, err := filepath.Abs(dir); err == nil {
		dir = full
	}
	return filepath.Base(dir)
}

// sizeOf returns the bytes of the files of tensors that a model was read from.
func sizeOf(m *weights.Model) int64 {
	total := int64(0)
	for path := range m.Files {
		if info, err := os.Stat(path); err == nil && filepath.Ext(path) == ".safetensors" {
			total += info.Size()
		}
	}
	return total
}

// check opens what was written as a user will, and returns how long that took.
func check(ctx context.Context, dir string) (time.Duration, int64, error) {
	start := time.Now()
	m, err := weights.Open(ctx, dir, weights.Options{})
	if err != nil {
		return 0, 0, fmt.Errorf("what was written cannot be read: %w", err)
	}
	took, size := time.Since(start), sizeOf(m)
	return took, size, m.Close()
}

// A card describes a copy.
type card struct {
	model, adapter          string
	quantization            weights.Quantization
	parameters              int
	maxLength, labels       int
	before, after           time.Duration // to read the weights
	bytesBefore, bytesAfter int64
	loss                    eval.Loss
}

// name returns the dtype of the copy.
func (c *card) name() string { return string(c.quantization.Format()) }

// text describes the copy for people, in lines.
func (c *card) text() string {
	l := c.loss
	return fmt.Sprintf("%s with groups of %d: %s, before %s\n", c.name(), c.quantization.GroupSize, output.Bytes(c.bytesAfter), output.Bytes(c.bytesBefore)) +
		fmt.Sprintf("loss against float32 on %d pairs of %d queries, cut to %d tokens:\n", l.Pairs, l.Queries, l.MaxLength) +
		fmt.Sprintf("  Kendall's tau %.4f, the same first ten for %.0f %% of the queries\n", l.Tau, 100*l.SameTop) +
		fmt.Sprintf("  logits differ by at most %.3f standard deviations, %.4f on average\n", l.Worst, l.Mean) +
		fmt.Sprintf("  nDCG@10 %.4f, before %.4f\n", l.NDCG, l.ReferenceNDCG)
}

// markdown returns the card as README.md.
func (c *card) markdown() string {
	l := c.loss
	base := c.model
	if c.adapter != "" && c.adapter != c.model {
		base += " with the adapter " + baseName(c.adapter)
	}
	return fmt.Sprintf(`---
library_name: mlx
pipeline_tag: text-ranking
tags:
- mlx
- cross-encoder
---

# %s, %s

A copy of %s that `+"`mlxrank model quantize`"+` made. The encoder's linear layers and the word embeddings have %d bits and share a scale and a bias in groups of %d, in MLX's affine format. Everything else is as in the original.

`+"```"+`
mlxrank serve --model DIR
`+"```"+`

| | original | this copy |
|---|---|---|
| bytes of weights | %d | %d |

Loss, measured with %d pairs: the first %d documents of %d queries of the collection of `+"`mlxrank eval --demo`"+`, cut to %d tokens. The original was computed in float32.

| measure | value |
|---|---|
| Kendall's tau, mean over queries | %.4f |
| queries with the same first ten documents | %.1f %% |
| largest difference of logits, in standard deviations | %.4f |
| mean difference of logits, in standard deviations | %.5f |
| nDCG@10 of the original | %.4f |
| nDCG@10 of this copy | %.4f |
`,
		base, c.name(), base, c.quantization.Bits, c.quantization.GroupSize, c.bytesBefore, c.bytesAfter,
		l.Pairs, eval.LossDepth, l.Queries, l.MaxLength, l.Tau, 100*l.SameTop, l.Worst, l.Mean, l.ReferenceNDCG, l.NDCG)
}
