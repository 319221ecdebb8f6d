package model

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/output"
	"github.com/mlxrank/mlxrank/weights"
	"github.com/mlxrank/mlxrank/weights/hub"
)

func modelShowCommand(s command.Streams) *cli.Command {
	return &cli.Command{
		Name:      "show",
		Usage:     "show the settings of a model and whether mlxrank supports it",
		UsageText: "mlxrank model show [--json] REF",
		Description: "REF may also be a directory, or builtin. Nothing is downloaded. For a model that\n" +
			"mlxrank does not support, the reason is shown.\n\n" +
			command.Examples(
				[2]string{"Show a model of the cache", "mlxrank model show " + weights.Default},
				[2]string{"Show the model in a directory", "mlxrank model show ./my-model"},
				[2]string{"Print the maximum length of a pair, in tokens", "mlxrank model show --json builtin | jq .max_length"},
			),
		Flags: []cli.Flag{command.JSONFlag()},
		Action: func(c *cli.Context) error {
			ref, err := reference(c)
			if err != nil {
				return err
			}
			m, err := lookAt(c.Context, ref)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return output.PrintJSON(s.Out, m)
			}
			return m.write(s.Out)
		},
	}
}

// shownJSON describes a model. If the model is not supported, it has only what was
// read before the error.
type shownJSON struct {
	Model     string   `json:"model"`
	Revisions []string `json:"revisions,omitempty"`
	Commit    string   `json:"commit,omitempty"`
	Dir       string   `json:"dir"`
	Adapter   string   `json:"adapter,omitempty"`
	Supported bool     `json:"supported"`
	Reason    string   `json:"reason,omitempty"` // why it is not supported
	// Architecture is the class of transformers. Modules follow it in a model of
	// sentence-transformers; Head lists what makes the logits.
	Architecture string   `json:"architecture,omitempty"`
	Modules      []string `json:"modules,omitempty"`
	Head         []string `json:"head,omitempty"`
	Parameters   int      `json:"parameters,omitempty"`
	// Weights describes small weights; it is absent for weights in floating point.
	Weights   *weightsJSON `json:"weights,omitempty"`
	Tokenizer string       `json:"tokenizer,omitempty"` // WordPiece, Unigram or BPE
	Shape     *shapeJSON   `json:"config,omitempty"`
	Labels    []string     `json:"labels,omitempty"`
	MaxLength int          `json:"max_length,omitempty"`
	// MaxLengthFile names the file that sets MaxLength.
	MaxLengthFile  string `json:"max_length_file,omitempty"`
	TruncationSide string `json:"truncation_side,omitempty"`
	Prompt         string `json:"prompt,omitempty"` // before every query
	// Prompts has the names of all prompts of the model.
	Prompts []string `json:"prompts,omitempty"`
	// Activation turns logits into scores unless --activation sets another. It is empty
	// if ActivationFile names an unsupported one.
	Activation     string     `json:"activation,omitempty"`
	ActivationFile string     `json:"activation_file,omitempty"`
	Warnings       []string   `json:"warnings,omitempty"`
	Files          []fileJSON `json:"files"`
	Bytes          int64      `json:"bytes"`

	activationName string        // its name in Python
	snapshot       *hub.Snapshot // nil for a directory
	incomplete     bool          // the snapshot lacks files
}

// weightsJSON describes small weights, as quantization of config.json does.
type weightsJSON struct {
	DType     string `json:"dtype"` // that --dtype auto gives
	Bits      int    `json:"bits"`
	GroupSize int    `json:"group_size"`
}

// shapeJSON has the fields of config.json that set the shape of a model.
type shapeJSON struct {
	Layers           int     `json:"num_hidden_layers"`
	HiddenSize       int     `json:"hidden_size"`
	Heads            int     `json:"num_attention_heads"`
	IntermediateSize int     `json:"intermediate_size"`
	HiddenAct        string  `json:"hidden_act"`
	VocabSize        int     `json:"vocab_size"`
	MaxPositions     int     `json:"max_position_embeddings"`
	TypeVocabSize    int     `json:"type_vocab_size"`
	LayerNormEps     float64 `json:"layer_norm_eps"`
	Rotary           bool    `json:"rotary,omitempty"`
	// A local layer attends to Window tokens on each side; one layer in GlobalEvery
	// attends to all.
	Window      int `json:"window,omitempty"`
	GlobalEvery int `json:"global_every,omitempty"`
}

// fileJSON describes a file of a model.
type fileJSON struct {
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
	Blob  string `json:"blob,omitempty"`
}

// lookAt reads a model on this machine. It returns an error if the model is not there;
// an unsupported model is a result.
func lookAt(ctx context.Context, ref string) (*shownJSON, error) {
	m := &shownJSON{Model: ref}
	if err := m.locate(ref); err != nil {
		return nil, err
	}
	model, err := weights.Open(ctx, ref, weights.Options{NoDownload: true})
	if ctx.Err() != nil {
		return nil, errors.Join(ctx.Err(), err)
	}
	if err != nil {
		if m.Dir == "" {
			return nil, modelError(ref, err)
		}
		m.Reason, m.incomplete = err.Error(), errors.Is(err, weights.ErrNotDownloaded)
		return m, nil
	}
	m.fill(model)
	if m.Files == nil {
		err = m.listDir()
	}
	return m, errors.Join(err, model.Close())
}

// locate fills in the files of ref, from its directory or from the cache.
func (m *shownJSON) locate(ref string) error {
	if info, err := os.Stat(ref); err == nil && info.IsDir() {
		m.Dir = ref
		return m.listDir()
	}
	id, err := hub.ParseRef(ref)
	if err != nil {
		return nil //nolint:nilerr // builtin, or weights.Open has a better message
	}
	client, err := hub.FromEnvironment()
	if err != nil {
		return err
	}
	s, err := client.Lookup(id)
	if other := weights.OtherName(id.Model); errors.Is(err, weights.ErrNotDownloaded) && other != "" {
		if renamed, again := client.Lookup(hub.Ref{Model: other, Revision: id.Revision}); again == nil {
			s, err = renamed, nil
		}
	}
	if err != nil {
		return modelError(ref, err)
	}
	m.Model = id.String() // ref may be the URL of a page
	m.snapshot, m.Dir, m.Commit, m.Revisions, m.Bytes = &s, s.Dir, s.Commit, s.Revisions, s.Size()
	for _, f := range s.Files {
		m.Files = append(m.Files, fileJSON{f.Name, f.Size, f.Blob})
	}
	return nil
}

// listDir lists the files of m.Dir.
func (m *shownJSON) listDir() error {
	entries, err := os.ReadDir(m.Dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		info, err := os.Stat(filepath.Join(m.Dir, entry.Name()))
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		m.Files = append(m.Files, fileJSON{Name: entry.Name(), Bytes: info.Size()})
		m.Bytes += info.Size()
	}
	return nil
}

// fill copies the settings of an opened model.
func (m *shownJSON) fill(model *weights.Model) {
	c := model.Config
	m.Supported, m.Dir, m.Adapter = true, model.Dir, model.Adapter
	m.Shape = &shapeJSON{c.Layers, c.HiddenSize, c.Heads, c.IntermediateSize, string(c.Activation), c.VocabSize, c.MaxPositions, c.TypeVocabSize, c.LayerNormEps, c.RopeBase > 0, c.Window, c.GlobalEvery}
	m.Architecture, m.Modules, m.Parameters, m.Head = model.Architecture, model.Modules, model.Parameters, describeHead(c)
	if q := model.Quantization; q.Bits > 0 {
		m.Weights = &weightsJSON{string(q.Format()), q.Bits, q.GroupSize}
	}
	m.Tokenizer = string(model.Tokenizer.Kind)
	m.Prompts = slices.Sorted(maps.Keys(model.Prompts))
	m.Labels, m.MaxLength, m.MaxLengthFile = model.LabelNames, model.MaxLength, model.MaxLengthFile
	m.TruncationSide, m.Prompt, m.Warnings = string(model.Tokenizer.TruncationSide), model.Prompt, model.Warnings
	m.Activation, m.ActivationFile, m.activationName = string(model.Scoring), model.ScoringFile, model.ScoringName
}

// architecture describes the class, the modules and the number of parameters.
func (m *shownJSON) architecture() string {
	text := m.Architecture
	if len(m.Modules) > 0 {
		text += " with " + strings.Join(m.Modules, ", ")
	}
	if m.Parameters < 100_000 {
		return fmt.Sprintf("%s, %d parameters", text, m.Parameters)
	}
	return fmt.Sprintf("%s, %.1f million parameters", text, float64(m.Parameters)/1e6)
}

// describeHead lists what the head reads and its steps.
func describeHead(c weights.Config) []string {
	list := []string{"pooling " + c.Pooling.String()}
	for _, step := range c.Head {
		switch {
		case step.LayerNorm:
			list = append(list, step.Name)
		case step.Activation == weights.Identity:
			list = append(list, fmt.Sprintf("%s to %d", step.Name, step.Out))
		default:
			list = append(list, fmt.Sprintf("%s to %d with %s", step.Name, step.Out, step.Activation))
		}
	}
	return list
}

// positions describes where the positions of tokens come from, and local layers.
func (s *shapeJSON) positions() string {
	text := fmt.Sprintf("%d positions", s.MaxPositions)
	if s.Rotary {
		text = "rotary " + text
	}
	if s.Window > 0 {
		text += fmt.Sprintf(", a window of %d tokens on each side except in one layer of %d", s.Window, s.GlobalEvery)
	}
	return text
}

// activation describes the activation and the file that names it.
func (m *shownJSON) activation() string {
	switch {
	case m.Activation == "":
		return fmt.Sprintf("%s of %s is not supported; give --activation", m.activationName, m.ActivationFile)
	case m.ActivationFile == "":
		return m.Activation
	}
	return m.Activation + ", from " + m.ActivationFile
}

// write prints the description as lines of text.
func (m *shownJSON) write(w io.Writer) error {
	rows := [][2]string{{"model", m.Model}}
	add := func(name, text string) {
		if text != "" {
			rows = append(rows, [2]string{name, text})
		}
	}
	add("revision", strings.Join(m.Revisions, ", "))
	add("commit", m.Commit)
	add("directory", m.Dir)
	if m.Adapter != m.Model {
		add("adapter", m.Adapter)
	}
	if m.Supported {
		c := m.Shape
		add("supported", "yes")
		add("arch", m.architecture())
		add("config", fmt.Sprintf("%d layers of %d, %d heads, intermediate size %d, %s, vocabulary of %d, %s",
			c.Layers, c.HiddenSize, c.Heads, c.IntermediateSize, c.HiddenAct, c.VocabSize, c.positions()))
		if w := m.Weights; w != nil {
			add("weights", fmt.Sprintf("%s: %d bits, groups of %d", w.DType, w.Bits, w.GroupSize))
		}
		add("head", strings.Join(m.Head, ", "))
		add("tokenizer", m.Tokenizer)
		add("labels", fmt.Sprintf("%d: %s", len(m.Labels), strings.Join(m.Labels, ", ")))
		add("max length", fmt.Sprintf("%d tokens, from %s", m.MaxLength, m.MaxLengthFile))
		add("truncation", m.TruncationSide)
		if m.Prompt != "" {
			add("prompt", strconv.Quote(m.Prompt)+" before every query")
		} else if len(m.Prompts) > 0 {
			add("prompts", strings.Join(m.Prompts, ", ")+": not used, since none is the default")
		}
		add("activation", m.activation())
		for _, warning := range m.Warnings {
			add("warning", warning)
		}
	} else {
		add("supported", "no: "+m.Reason)
	}
	name := "files"
	for _, f := range m.Files {
		add(name, fmt.Sprintf("%9s  %s", output.Bytes(f.Bytes), f.Name))
		name = " "
	}
	add(" ", fmt.Sprintf("%9s  total", output.Bytes(m.Bytes)))
	var b strings.Builder
	for _, row := range rows {
		fmt.Fprintf(&b, "%-12s%s\n", row[0], row[1])
	}
	_, err := io.WriteString(w, b.String())
	return err
}
