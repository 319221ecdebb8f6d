// Package weights loads and verifies the files of a model.
//
// A model reference is the directory of a cross-encoder in the layout of
// Hugging Face (config.json, tokenizer.json, model.safetensors), the id of such
// a model on the Hugging Face hub (org/name[@revision]), or "builtin". Every
// claim in a file is compared with the contents of the file before it is used;
// no allocation is sized by a claim.
//
// Package engine loads models with it, and so can other programs. It needs no
// cgo. Its API may change with a minor version; CHANGELOG.md lists the changes.
package weights

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
)

// Options holds the optional arguments of Open.
type Options struct {
	// Adapter names the PEFT LoRA adapter to merge into the weights: a directory,
	// Builtin for the embedded adapter, or "" for none.
	Adapter string

	// BuiltinDir is the directory of Builtin's encoder; "" searches for it.
	BuiltinDir string

	// Progress, if set, is called during a download from the hub, by one
	// goroutine at a time.
	Progress func(Progress)

	// Warn, if set, receives the warnings of a download that continues. Any
	// goroutine may call it.
	Warn func(text string)

	// Weights selects the format of the encoder's weights. GroupSize is the group of
	// weights that Open quantizes, 32 or 64; 0 chooses 64 where it divides all rows,
	// else 32.
	Weights   WeightFormat
	GroupSize int

	// NoDownload makes Open return ErrNotDownloaded for a model of the hub that
	// is not on this machine.
	NoDownload bool
}

// A Model holds a verified model that a session can load.
type Model struct {
	Ref     string // as given to Open; the URL of a hub page is replaced by its id
	Dir     string // the directory the files were read from
	Adapter string // the merged adapter: a directory, "builtin", or ""
	Config  Config

	// Architecture is the class of transformers in config.json. Parameters counts the
	// numbers of the checkpoint that scoring uses, the adapter merged.
	Architecture string
	Parameters   int
	// Modules names the modules of sentence-transformers after the Transformer, nil if
	// a classifier makes the scores.
	Modules []string

	// LabelNames names the logits in order: the names in config.json, or else
	// LABEL_0, LABEL_1 and so on.
	LabelNames []string

	// Tensors holds every tensor of the graph exactly once, in the order embeddings,
	// layers ascending, head, whatever the checkpoint calls them. They have the names
	// of BertForSequenceClassification without "bert."; native/mlxrank.h lists what
	// BERT lacks. Config implies their shapes. Every value is finite. A bias or an
	// embedding of type ids that the model lacks is zero. Small weights are U32, as
	// Quantization describes them; NAME.scales and NAME.biases follow NAME.weight.
	Tensors []Tensor

	// Quantization describes the small weights in Tensors; it is zero if there are none.
	Quantization Quantization

	// Tokenizer holds the settings that AutoTokenizer of transformers reads from
	// the model's files. The ids of its vocabulary are below Config.VocabSize;
	// the ids of AddedTokens may be above.
	Tokenizer Tokenizer

	// Prompt is prepended to every query. It is the default prompt of
	// config_sentence_transformers.json, "" for none.
	Prompt string
	// Prompts holds all prompts of that file by name. Only Prompt is used.
	Prompts map[string]string

	// MaxLength is the longest input in tokens, special tokens included.
	// MaxLengthFile is the file of the model that sets it.
	MaxLength     int
	MaxLengthFile string

	// Scoring is the default function from a label's logit to a score, chosen by
	// the rule of sentence-transformers: the function that the model's files
	// name, or else sigmoid for one label and raw for several. It is "" if the
	// named function is not supported.
	Scoring Scoring
	// ScoringName is the Python name in ScoringFile, "" for the default.
	ScoringName, ScoringFile string

	// Warnings lists settings of the model's files that are not used.
	Warnings []string

	// Files identifies the files that the model was read from.
	Files Fingerprint

	source *source // of what Write writes

	mu    sync.Mutex
	owned []mapping
	files []mapping // the mappings of files in owned
}

// Open reads and verifies the model that ref names and merges the adapter of
// opts, if any. A model of the hub is read from the cache without a connection,
// or downloaded until ctx ends. A directory takes precedence over a model of the
// hub with the same name. An error names the file, the tensor if one is
// concerned, the value found and the value expected.
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
		return nil, fmt.Errorf("model %q already has an adapter: to merge %s, give its encoder %s as the model", ref, opts.Adapter, dir)
	}
	m := &Model{Ref: ref, Dir: dir, Adapter: opts.Adapter}
	if ref == Builtin {
		m.Adapter = Builtin
	}
	// Taken before the files are read, so that a file replaced meanwhile differs.
	files, unlisted := m.fingerprint()
	m.Files = files
	if err := m.load(opts); err != nil || unlisted != nil {
		err = cmp.Or(err, unlisted)
		err = fmt.Errorf("model %q: %w", dir, err)
		if ref != dir {
			err = fmt.Errorf("model %q: %w", ref, err)
		}
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// Close releases the memory that Tensors alias. Tensors must not be used while
// Close runs or afterwards. A second call does nothing.
func (m *Model) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for _, mem := range m.owned {
		errs = append(errs, mem.close())
	}
	m.owned, m.files, m.Tensors, m.source = nil, nil, nil, nil
	return errors.Join(errs...)
}

// release takes the pages of the files out of the process's memory, once all have been
// read: reading some of them again costs less than the whole file beside its copy.
func (m *Model) release() {
	for _, file := range m.files {
		file.release()
	}
}

// load fills m from its directory and adapter.
func (m *Model) load(opts Options) error {
	sentence, err := m.readSentence()
	if err != nil {
		return err
	}
	root := m.Dir
	if sentence.folder != "" { // of the files of transformers, which the rest reads
		m.Dir = filepath.Join(root, sentence.folder)
		defer func() { m.Dir = root }()
	}
	cfg, err := readConfig(m.Dir)
	if err != nil {
		return err
	}
	if err := m.readSentenceBert(&sentence); err != nil {
		return err
	}
	if len(sentence.modules) > 1 {
		if err := m.readStack(root, sentence, &cfg); err != nil {
			return err
		}
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
		if ad, err = m.loadAdapter(cfg.arch); err != nil {
			return err
		}
	}
	if err := m.assemble(&cfg, base, name, ad, opts); err != nil {
		return err
	}
	m.Config, m.Architecture = cfg.Config, cfg.class
	m.source.config, m.source.sentence = cfg, sentence
	for _, part := range sentence.modules {
		if part.index > 0 {
			m.Modules = append(m.Modules, part.kind)
		}
	}
	m.Prompts = sentence.prompts
	m.LabelNames = cfg.labelNames()
	m.resolveScoring(sentence.scoring, cfg.scoring)
	return nil
}

// assemble collects the tensors of base, the head's modules and ad under their
// canonical names, merges the low-rank updates of ad, and gives the weights the format
// that opts asks for. Errors about all of base call it name.
func (m *Model) assemble(cfg *modelConfig, base []*tensorFile, name string, ad *adapter, opts Options) error {
	found, err := index(base, cfg.arch)
	raw := map[string]string{}
	for name, e := range found {
		raw[name] = e.raw
	}
	if err == nil {
		err = m.mapStack(cfg.stack, found)
	}
	if err == nil && ad != nil {
		err = ad.replace(found, cfg)
	}
	if err != nil {
		return err
	}
	want := layout(cfg)
	picked, err := pick(want, found, cfg.quantization)
	if err != nil {
		return explainMissing(name, err, ad)
	}
	if err := checkFinite(picked); err != nil {
		return err
	}
	m.release()
	if q := quantization(picked); ad != nil && q.Bits > 0 {
		return fmt.Errorf("%s has %s weights, into which no adapter is merged; merge %s into the original model, with mlxrank model quantize --adapter", name, q.Format(), ad.name)
	}
	if ad != nil {
		merged, mem, err := ad.merge(picked)
		if err != nil {
			return err
		}
		picked, m.owned = merged, append(m.owned, mem)
	}
	stored := quantization(picked)
	if picked, err = m.convert(want, picked, opts); err != nil {
		return err
	}
	m.release()
	m.Tensors, m.Quantization = split(want, picked), quantization(picked)
	m.source = &source{entries: picked, slots: want, raw: raw, stored: stored}
	for _, s := range want {
		if !s.zeros {
			m.Parameters += elements(s.shape)
		}
	}
	return nil
}

// explainMissing adds to an error about missing tensors what to do.
func explainMissing(file string, err error, ad *adapter) error {
	switch {
	case !errors.Is(err, errMissing):
		return err
	case ad != nil:
		return fmt.Errorf("%s with %s: %w", file, ad.name, err)
	}
	return fmt.Errorf("%s: %w (by BERT's names); pull or copy the model again; an encoder without a classifier needs an adapter that has one, or modules.json and config_sentence_transformers.json", file, err)
}
