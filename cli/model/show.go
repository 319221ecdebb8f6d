package model

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
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
	Model     string     `json:"model"`
	Revisions []string   `json:"revisions,omitempty"`
	Commit    string     `json:"commit,omitempty"`
	Dir       string     `json:"dir"`
	Adapter   string     `json:"adapter,omitempty"`
	Supported bool       `json:"supported"`
	Reason    string     `json:"reason,omitempty"` // why it is not supported
	Shape     *shapeJSON `json:"config,omitempty"`
	Labels    []string   `json:"labels,omitempty"`
	MaxLength int        `json:"max_length,omitempty"`
	// MaxLengthFile names the file that sets MaxLength.
	MaxLengthFile  string `json:"max_length_file,omitempty"`
	TruncationSide string `json:"truncation_side,omitempty"`
	Prompt         string `json:"prompt,omitempty"` // before every query
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
	m.Shape = &shapeJSON{c.Layers, c.HiddenSize, c.Heads, c.IntermediateSize, string(c.Activation), c.VocabSize, c.MaxPositions, c.TypeVocabSize, c.LayerNormEps}
	m.Labels, m.MaxLength, m.MaxLengthFile = model.LabelNames, model.MaxLength, model.MaxLengthFile
	m.TruncationSide, m.Prompt, m.Warnings = string(model.Tokenizer.TruncationSide), model.Prompt, model.Warnings
	m.Activation, m.ActivationFile, m.activationName = string(model.Scoring), model.ScoringFile, model.ScoringName
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
		add("config", fmt.Sprintf("%d layers of %d, %d heads, intermediate size %d, %s, vocabulary of %d, %d positions",
			c.Layers, c.HiddenSize, c.Heads, c.IntermediateSize, c.HiddenAct, c.VocabSize, c.MaxPositions))
		add("labels", fmt.Sprintf("%d: %s", len(m.Labels), strings.Join(m.Labels, ", ")))
		add("max length", fmt.Sprintf("%d tokens, from %s", m.MaxLength, m.MaxLengthFile))
		add("truncation", m.TruncationSide)
		if m.Prompt != "" {
			add("prompt", strconv.Quote(m.Prompt)+" before every query")
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
