package weights

import (
	"fmt"
	"path/filepath"
)

const (
	tokenizerFile = "tokenizer.json"
	maxTokenizer  = 64 << 20 // bytes
)

// loadTokenizer reads the tokenizer's files and derives the maximum length.
func (m *Model) loadTokenizer(cfg modelConfig, sentence sentenceSettings) error {
	path := filepath.Join(m.Dir, tokenizerFile)
	data, err := readSmall(path, maxTokenizer)
	if err != nil {
		return missingFile(path, err, "every model directory needs one (in Python, AutoTokenizer.from_pretrained(dir).save_pretrained(dir) writes it)")
	}
	settings, err := m.readTokenizerSettings(cfg.tokenizerClass, sentence)
	if err != nil {
		return err
	}
	if m.Tokenizer, err = parseTokenizer(data, cfg.VocabSize, settings.names()); err == nil {
		err = settings.apply(&m.Tokenizer, cfg.VocabSize)
	}
	if err == nil {
		err = m.Tokenizer.checkFrame(cfg.TypeVocabSize)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if sentence.lowercase {
		m.Tokenizer.Normalizer.lowerFirst()
	}
	m.Prompt = sentence.prompt
	m.MaxLength, m.MaxLengthFile = cfg.MaxPositions, configFile
	length, file := settings.maxLength, tokenizerConfigFile
	if sentence.maxLength > 0 {
		length, file = sentence.maxLength, sentence.lengthFile
	}
	if m.Ref != Builtin && length > 0 && length < m.MaxLength {
		m.MaxLength, m.MaxLengthFile = length, file
	}
	if least := len(m.Tokenizer.Pair) - 2; m.MaxLength < least {
		return fmt.Errorf("%s: a maximum length of %d tokens (the lesser of model_max_length and max_position_embeddings) holds no pair, whose special tokens are %d", m.Dir, m.MaxLength, least)
	}
	return nil
}

// lowerFirst lower-cases texts ahead of the normalizer's own steps, as
// do_lower_case of sentence_bert_config.json has it. The golden's maker checks
// for every character that this comes to the normalizer's own lower-casing.
func (n *Normalizer) lowerFirst() {
	strip := *orElse(n.StripAccents, n.Lowercase)
	n.Lowercase, n.StripAccents = true, &strip
}
