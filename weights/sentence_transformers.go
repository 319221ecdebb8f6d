package weights

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Files that sentence-transformers adds to a model of transformers.
const (
	modulesFile        = "modules.json"
	sentenceConfigFile = "config_sentence_transformers.json"
	sentenceBertFile   = "sentence_bert_config.json"
)

// sentenceBertFiles lists the names that sentence_bert_config.json has had. The
// first file that is not empty counts.
var sentenceBertFiles = []string{
	sentenceBertFile, "sentence_roberta_config.json", "sentence_distilbert_config.json", "sentence_camembert_config.json",
	"sentence_albert_config.json", "sentence_xlm-roberta_config.json", "sentence_xlnet_config.json",
}

// sentenceSettings holds the settings in the files of sentence-transformers.
// CrossEncoder reads them only if modules.json exists and the model_type in
// config_sentence_transformers.json is CrossEncoder.
type sentenceSettings struct {
	modules []module
	folder  string // of the Transformer's files, "" for the model's own
	task    transformerTask
	scoring namedScoring
	prompt  string // prepended to every query
	prompts map[string]string

	lengthFile string
	maxLength  int // in tokens, 0 if not set
	lowercase  bool
	// tokenizer overrides the members of tokenizer_config.json.
	tokenizer map[string]jsontext.Value
	saved     bool // CrossEncoder wrote the files
}

// A transformerTask is what the Transformer of a CrossEncoder computes.
type transformerTask struct{ name, output, feature string }

var (
	sequenceClassification = transformerTask{"sequence-classification", "logits", scoresFeature}
	// The modules after the Transformer make the scores.
	featureExtraction = transformerTask{"feature-extraction", "last_hidden_state", tokenFeature}
)

// readSentence reads modules.json and config_sentence_transformers.json.
func (m *Model) readSentence() (sentenceSettings, error) {
	var s sentenceSettings
	config, err := m.readFields(sentenceConfigFile)
	if err != nil {
		return s, err
	}
	data, err := readSmall(filepath.Join(m.Dir, modulesFile), maxConfig)
	if errors.Is(err, fs.ErrNotExist) {
		m.warnOfUnused(config)
		return s, nil
	}
	if err != nil {
		return s, err
	}
	var kind string
	if err := decodeField(config, "model_type", &kind); err != nil {
		return s, fmt.Errorf("%s: %w", filepath.Join(m.Dir, sentenceConfigFile), err)
	}
	if kind != "CrossEncoder" { // the settings of an encoder are for single texts
		return s, nil
	}
	s.saved = true
	if s.modules, err = parseModules(data); err != nil {
		return s, fmt.Errorf("%s: %w", filepath.Join(m.Dir, modulesFile), err)
	}
	if err := s.parseConfig(config); err != nil {
		return s, fmt.Errorf("%s: %w", filepath.Join(m.Dir, sentenceConfigFile), err)
	}
	m.warnOfUnknown(config)
	s.task, s.folder = sequenceClassification, s.modules[0].path
	if len(s.modules) > 1 {
		s.task = featureExtraction
	}
	return s, nil
}

// warnOfUnknown warns about settings that are unknown and ignored.
func (m *Model) warnOfUnknown(config map[string]jsontext.Value) {
	unknown := slices.DeleteFunc(sortedKeys(config), func(name string) bool { return slices.Contains(sentenceKeys, name) })
	if len(unknown) > 0 {
		m.warn("%s: unknown settings are ignored: %s", sentenceConfigFile, strings.Join(unknown, ", "))
	}
}

// warnOfUnused warns that the settings of a CrossEncoder are ignored because
// modules.json is missing, as in an incomplete copy. CrossEncoder ignores them
// too.
func (m *Model) warnOfUnused(config map[string]jsontext.Value) {
	var kind string
	if decodeField(config, "model_type", &kind) != nil || kind != "CrossEncoder" {
		return
	}
	m.warn("%s: ignored, as in CrossEncoder, because %s is missing; to use it, copy or pull the whole model again", sentenceConfigFile, modulesFile)
}

// sentenceKeys lists the members of config_sentence_transformers.json that are
// supported, or do not affect the scores of a CrossEncoder.
var sentenceKeys = []string{
	"__version__", "model_type", "prompts", "default_prompt_name", "activation_fn", "keep_in_fp32_modules",
	"similarity_fn_name", "requirements", "truncate_dim",
}

func (s *sentenceSettings) parseConfig(config map[string]jsontext.Value) error {
	var prompts map[string]*string
	var name *string
	s.scoring.file = sentenceConfigFile
	for _, field := range []struct {
		name string
		to   any
	}{{"prompts", &prompts}, {"default_prompt_name", &name}, {"activation_fn", &s.scoring.name}} {
		if err := decodeField(config, field.name, field.to); err != nil {
			return err
		}
	}
	s.prompts = map[string]string{}
	for key, text := range prompts {
		s.prompts[key] = valueOr(text, "")
	}
	if name == nil {
		return nil
	}
	prompt, ok := prompts[*name]
	if len(prompts) == 0 {
		return fmt.Errorf("default_prompt_name is %q, but there are no prompts; remove it, or add the prompt to prompts", *name)
	}
	if !ok {
		return fmt.Errorf("default_prompt_name is %q, expected one of the prompts: %s", *name, strings.Join(sortedKeys(prompts), ", "))
	}
	s.prompt = valueOr(prompt, "")
	return nil
}

// sentenceBertKeys lists the members of sentence_bert_config.json that do not
// affect the scores of a CrossEncoder, and then the supported ones. Others are
// rejected, as in CrossEncoder.
var sentenceBertKeys = []string{
	"backend", "model_args", "model_kwargs", "unpad_inputs", "query_length", "document_length", "query_expansion",
	// Supported:
	"max_seq_length", "do_lower_case", "tokenizer_args", "processor_kwargs", "processing_kwargs", "config_args", "config_kwargs",
	"transformer_task", "modality_config", "module_output_name", "tokenizer_name_or_path",
}

// readSentenceBert reads the settings of the Transformer of a saved CrossEncoder.
func (m *Model) readSentenceBert(s *sentenceSettings) error {
	if !s.saved {
		return nil
	}
	for _, name := range sentenceBertFiles {
		fields, err := m.readFields(name)
		if err != nil {
			return err
		}
		if len(fields) == 0 {
			continue
		}
		s.lengthFile = name
		if err := s.parseBert(fields); err != nil {
			return fmt.Errorf("%s: %w", filepath.Join(m.Dir, name), err)
		}
		return nil
	}
	return fmt.Errorf("%s is missing; a saved CrossEncoder needs it: pull or copy the model again", filepath.Join(m.Dir, sentenceBertFile))
}

func (s *sentenceSettings) parseBert(fields map[string]jsontext.Value) error {
	for _, name := range sortedKeys(fields) {
		if !slices.Contains(sentenceBertKeys, name) {
			return fmt.Errorf("unknown field %.40q; it may change scores", name)
		}
	}
	var task, output, other *string
	var modality map[string]map[string]jsontext.Value
	var length *int
	for _, f := range []struct {
		name string
		to   any
	}{
		{"transformer_task", &task}, {"module_output_name", &output}, {"tokenizer_name_or_path", &other},
		{"modality_config", &modality}, {"max_seq_length", &length}, {"do_lower_case", &s.lowercase},
		{"tokenizer_args", &s.tokenizer}, {"processor_kwargs", &s.tokenizer},
	} {
		if err := decodeField(fields, f.name, f.to); err != nil {
			return err
		}
	}
	switch {
	case valueOr(task, featureExtraction.name) != s.task.name:
		return fmt.Errorf("transformer_task is %q, expected %q", valueOr(task, featureExtraction.name), s.task.name)
	case valueOr(output, s.task.feature) != s.task.feature:
		return fmt.Errorf("module_output_name is %q, expected %q", *output, s.task.feature)
	case other != nil:
		return fmt.Errorf("tokenizer_name_or_path %q is not supported, expected the tokenizer in the model's directory", *other)
	case length != nil && *length < 1:
		return fmt.Errorf("max_seq_length is %d, expected at least 1", *length)
	}
	if err := s.task.checkModality(modality); err != nil {
		return err
	}
	for _, name := range []string{"config_args", "config_kwargs"} {
		var args map[string]jsontext.Value
		if err := decodeField(fields, name, &args); err != nil {
			return err
		}
		if len(args) > 0 {
			return fmt.Errorf("%s is not supported: set %s in %s instead", name, strings.Join(sortedKeys(args), ", "), configFile)
		}
	}
	if s.tokenizer["model_max_length"] == nil {
		s.maxLength = valueOr(length, 0)
	}
	return s.parseProcessing(fields["processing_kwargs"])
}

// checkModality checks that texts enter the model as pairs, not as chat messages, and
// that the Transformer makes what the task says.
func (t transformerTask) checkModality(modality map[string]map[string]jsontext.Value) error {
	for _, name := range sortedKeys(modality) {
		text := modality[name]
		if name != "text" || unquote(text["method"]) != "forward" || unquote(text["method_output_name"]) != t.output {
			return fmt.Errorf("modality_config of %q is not supported, expected %s of forward for \"text\"", name, t.output)
		}
	}
	return nil
}

// parseProcessing parses the arguments that every call of the tokenizer gets.
func (s *sentenceSettings) parseProcessing(raw jsontext.Value) error {
	var kwargs map[string]map[string]jsontext.Value
	if err := decodeKnown(raw, &kwargs); err != nil {
		return fmt.Errorf("processing_kwargs: %w", err)
	}
	for _, kind := range []string{"text", "common"} {
		for _, name := range sortedKeys(kwargs[kind]) {
			value := kwargs[kind][name]
			switch {
			case name == "max_length":
				if err := decode(value, &s.maxLength); err != nil || s.maxLength < 1 {
					return fmt.Errorf("processing_kwargs: max_length is %s, expected a number of tokens", value)
				}
			case name == "padding" || name == "pad_to_multiple_of" || name == "return_tensors":
			case name == "truncation" && (unquote(value) == "longest_first" || value.Kind() == 't'):
			default:
				return fmt.Errorf("processing_kwargs: %s %s is not supported", name, value)
			}
		}
	}
	return nil
}

// readFields returns the members of a JSON file in the model's directory, nil if
// there is no such file.
func (m *Model) readFields(name string) (map[string]jsontext.Value, error) {
	return readFields(filepath.Join(m.Dir, name))
}

func readFields(path string) (map[string]jsontext.Value, error) {
	data, err := readSmall(path, maxConfig)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	fields, err := splitFields(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return fields, nil
}
