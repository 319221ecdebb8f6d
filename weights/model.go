// Package weights turns a model reference into verified named tensors.
//
// A reference is the directory of a BERT cross-encoder in the layout of
// Hugging Face (config.json, tokenizer.json, model.safetensors), the id of such
// a model on the Hugging Face hub (org/name[@revision]), or "builtin".
// Everything read is checked before it is used: what a file claims is compared
// with what the file holds, and no allocation is sized by a claim.
//
// Package engine uses it; it is for programs that load models for something
// else. It needs no cgo. Its API may change with a minor version, which
// CHANGELOG.md says.
package weights

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
)

// Options are the choices of Open beside the model itself.
type Options struct {
	// Adapter is the directory of a PEFT LoRA adapter that is merged into the
	// weights, Builtin for the one that is part of the program, "" for none.
	Adapter string

	// BuiltinDir is the directory of Builtin's encoder; "" searches.
	BuiltinDir string

	// Progress, if set, is told how far the download of a model of the hub is,
	// by one goroutine at a time.
	Progress func(Progress)

	// Warn, if set, is given what the user should know although a download goes
	// on, by any goroutine.
	Warn func(text string)

	// NoDownload makes a model of the hub that is not on this machine an error,
	// ErrNotDownloaded.
	NoDownload bool
}

// A Model is a verified model, ready to be handed to a session.
type Model struct {
	Ref     string // as given to Open, the address of a page of the hub as an id
	Dir     string // the directory the files were read from
	Adapter string // the adapter merged: a directory, "builtin", or ""
	Config  Config

	// LabelNames are the names of the logits, in their order: those of
	// config.json, LABEL_0 and so on where it gives none.
	LabelNames []string

	// Tensors holds every tensor of the graph exactly once, under the names
	// and in the order of BertForSequenceClassification without its "bert."
	// prefix: embeddings, layers ascending, pooler, classifier. Shapes are
	// those that Config implies. Every value is finite.
	Tensors []Tensor

	// Tokenizer makes the ids, as AutoTokenizer of transformers reads it from
	// the model's files. The ids of its vocabulary are below Config.VocabSize,
	// those of AddedTokens need not be.
	Tokenizer Tokenizer

	// Prompt is put ahead of every query: that which
	// config_sentence_transformers.json has as the default, "" for none.
	Prompt string

	// MaxLength is the longest input in tokens, special tokens included, and
	// MaxLengthFile the file of the model that says so.
	MaxLength     int
	MaxLengthFile string

	// Scoring makes a score of a label's logit by default, by the rule of
	// sentence-transformers: what the model's files name, else sigmoid for one
	// label and raw for several. It is "" if what they name is not supported.
	Scoring Scoring
	// ScoringName is the Python name that ScoringFile gives, "" for the default.
	ScoringName, ScoringFile string

	// Warnings name settings of the model's files that are not used.
	Warnings []string

	// Files identifies what the model was read from.
	Files Fingerprint

	mu    sync.Mutex
	owned []*mapping
}

// Open reads and verifies the model that ref names and merges the adapter of
// opts, if any. A model of the hub is taken from the cache without a connection,
// or downloaded, which ctx ends. A directory comes before a model of the hub
// that has the same name. An error names the file, the tensor where one is concerned,
// what was expected and what was found.
func Open(ctx context.Context, ref string, opts Options) (*Model, error) {
	ref = canonicalRef(ref)
	dir, err := resolve(ctx, ref, opts)
	if err == nil {
		err = refuseAdapter(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("model %q: %w", ref, err)
	}
	if ref == Builtin && opts.Adapter != "" {
		return nil, fmt.Errorf("model %q has an adapter of its own: give the directory %s to merge %s instead", ref, dir, opts.Adapter)
	}
	m := &Model{Ref: ref, Dir: dir, Adapter: opts.Adapter}
	if ref == Builtin {
		m.Adapter = Builtin
	}
	// Before the files are read: one that is replaced meanwhile is another one.
	files, unlisted := m.fingerprint()
	m.Files = files
	if err := m.load(); err != nil || unlisted != nil {
		err = cmp.Or(err, unlisted)
		err = fmt.Errorf("model %q: %w", dir, err)
		if ref != dir {
			err = fmt.Errorf("model %q: %w", ref, err)
		}
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// Close releases the memory that Tensors alias. They must not be used
// afterwards, nor while Close runs. Closing twice is harmless.
func (m *Model) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for _, mem := range m.owned {
		errs = append(errs, mem.close())
	}
	m.owned, m.Tensors = nil, nil
	return errors.Join(errs...)
}

// load fills m from its directory and adapter.
func (m *Model) load() error {
	cfg, err := readConfig(m.Dir)
	if err != nil {
		return err
	}
	sentence, err := m.readSentence()
	if err != nil {
		return err
	}
	if err := m.loadTokenizer(cfg, sentence); err != nil {
		return err
	}
	base, name, err := m.mapWeights()
	if err != nil {
		return err
	}
	var ad *adapter
	if m.Adapter != "" {
		if ad, err = m.loadAdapter(); err != nil {
			return err
		}
	}
	if err := m.assemble(&cfg.Config, base, name, ad); err != nil {
		return err
	}
	m.Config = cfg.Config
	m.LabelNames = cfg.labelNames()
	m.resolveScoring(sentence.scoring, cfg.scoring)
	return nil
}

// assemble puts the tensors of base and ad together under their canonical
// names and merges ad's low-rank updates. Errors about base as a whole call it
// by name.
func (m *Model) assemble(cfg *Config, base []*tensorFile, name string, ad *adapter) error {
	found, err := index(base)
	if err != nil {
		return err
	}
	if ad != nil {
		if err := ad.replace(found, cfg); err != nil {
			return err
		}
	}
	want := layout(*cfg)
	picked, err := pick(want, found)
	if err != nil {
		return explainMissing(name, err, ad)
	}
	if err := checkFinite(picked); err != nil {
		return err
	}
	if ad != nil {
		merged, mem, err := ad.merge(picked)
		if err != nil {
			return err
		}
		picked, m.owned = merged, append(m.owned, mem)
	}
	m.Tensors = make([]Tensor, len(picked))
	for i, e := range picked {
		m.Tensors[i] = e.Tensor
	}
	return nil
}

// explainMissing says what to do about missing tensors.
func explainMissing(file string, err error, ad *adapter) error {
	switch {
	case !errors.Is(err, errMissing):
		return err
	case ad != nil:
		return fmt.Errorf("%s with %s: %w", file, ad.name, err)
	}
	return fmt.Errorf("%s: %w (an encoder without a classifier needs an adapter that brings one)", file, err)
}
