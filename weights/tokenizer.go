package weights

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

const (
	tokenizerFile       = "tokenizer.json"
	tokenizerConfigFile = "tokenizer_config.json"
	maxTokenizer        = 64 << 20 // bytes
	// absurdLength is where model_max_length stops being a limit: Hugging Face
	// writes 1e30 for "none".
	absurdLength = 1 << 24
)

// TokenizerConfig is what tokenizer_config.json says. Hugging Face lets it
// override tokenizer.json.
type TokenizerConfig struct {
	DoLowerCase          *bool // nil: absent or null
	StripAccents         *bool
	TokenizeChineseChars *bool
	ModelMaxLength       int // in tokens; 0: absent or no limit
}

// loadTokenizer reads the tokenizer's files and derives the maximum length.
func (m *Model) loadTokenizer(cfg Config) error {
	path := filepath.Join(m.Dir, tokenizerFile)
	data, err := readSmall(path, maxTokenizer)
	if err != nil {
		return missingFile(path, err, "every model directory needs one (in Python, AutoTokenizer.from_pretrained(dir).save_pretrained(dir) writes it)")
	}
	if m.Tokenizer, err = ParseTokenizer(data, cfg.VocabSize); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if _, _, err = m.Tokenizer.Frame(); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	path = filepath.Join(m.Dir, tokenizerConfigFile)
	if data, err = readSmall(path, maxConfig); err == nil {
		m.TokenizerConfig, err = parseTokenizerConfig(data)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		m.Tokenizer.Normalizer.override(m.TokenizerConfig)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	m.MaxLength = cfg.MaxPositions
	if n := m.TokenizerConfig.ModelMaxLength; m.Ref != Builtin && n > 0 {
		m.MaxLength = min(n, m.MaxLength)
	}
	if least := len(m.Tokenizer.Pair) - 2; m.MaxLength < least {
		return fmt.Errorf("%s: a maximum length of %d tokens (the lesser of model_max_length and max_position_embeddings) holds no pair, whose special tokens are %d", m.Dir, m.MaxLength, least)
	}
	return nil
}

// parseTokenizerConfig decodes tokenizer_config.json.
func parseTokenizerConfig(data []byte) (TokenizerConfig, error) {
	var c struct {
		DoLowerCase          *bool    `json:"do_lower_case"`
		StripAccents         *bool    `json:"strip_accents"`
		TokenizeChineseChars *bool    `json:"tokenize_chinese_chars"`
		ModelMaxLength       *float64 `json:"model_max_length"`
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return TokenizerConfig{}, jsonError(err)
	}
	t := TokenizerConfig{DoLowerCase: c.DoLowerCase, StripAccents: c.StripAccents, TokenizeChineseChars: c.TokenizeChineseChars}
	length := *orElse(c.ModelMaxLength, absurdLength)
	if length < 1 {
		return TokenizerConfig{}, fmt.Errorf("model_max_length is %v, expected at least 1", length)
	}
	if length < absurdLength {
		t.ModelMaxLength = int(length)
	}
	return t, nil
}

// override applies tokenizer_config.json, as AutoTokenizer of transformers does.
func (n *Normalizer) override(c TokenizerConfig) {
	n.Lowercase = *orElse(c.DoLowerCase, n.Lowercase)
	n.HandleChineseChars = *orElse(c.TokenizeChineseChars, n.HandleChineseChars)
	if c.StripAccents != nil {
		n.StripAccents = c.StripAccents
	}
}
