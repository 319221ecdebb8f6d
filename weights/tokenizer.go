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
	if err := checkTokenizer(data, cfg.VocabSize); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	m.TokenizerJSON = data
	path = filepath.Join(m.Dir, tokenizerConfigFile)
	if data, err = readSmall(path, maxConfig); err == nil {
		m.TokenizerConfig, err = parseTokenizerConfig(data)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	m.MaxLength = cfg.MaxPositions
	if n := m.TokenizerConfig.ModelMaxLength; m.Ref != Builtin && n > 0 {
		m.MaxLength = min(n, m.MaxLength)
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

// checkTokenizer checks that tokenizer.json holds a WordPiece model none of
// whose ids is beyond the word embeddings.
func checkTokenizer(data []byte, vocabSize int) error {
	var t struct {
		Model struct {
			Type  string   `json:"type"`
			Vocab vocabMax `json:"vocab"`
		} `json:"model"`
		AddedTokens []struct {
			ID      int    `json:"id"`
			Content string `json:"content"`
		} `json:"added_tokens"`
	}
	if err := json.Unmarshal(data, &t); err != nil {
		return jsonError(err)
	}
	if t.Model.Type != "WordPiece" {
		return fmt.Errorf("model type %q is not supported, expected \"WordPiece\"", t.Model.Type)
	}
	if t.Model.Vocab.size == 0 {
		return fmt.Errorf("the vocabulary is empty")
	}
	last := t.Model.Vocab.max
	for _, a := range t.AddedTokens {
		if a.ID < 0 {
			return fmt.Errorf("added token %q has the negative id %d", a.Content, a.ID)
		}
		last = max(last, a.ID)
	}
	if last >= vocabSize {
		return fmt.Errorf("token id %d, expected less than the vocab_size %d of %s", last, vocabSize, configFile)
	}
	return nil
}

// vocabMax is the greatest id of a vocabulary and its number of tokens. It is
// decoded without building the map, which would take longer than all the rest.
type vocabMax struct {
	max, size int
}

// UnmarshalJSON scans an object of token ids. The decoder that calls it has
// already checked that the text is valid JSON.
func (v *vocabMax) UnmarshalJSON(text []byte) error {
	if len(text) == 0 || text[0] != '{' {
		return errors.New("expected an object of token ids")
	}
	for i := 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			for i++; text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
		case c >= '0' && c <= '9':
			id := 0
			for ; text[i] >= '0' && text[i] <= '9'; i++ {
				if id = id*10 + int(text[i]-'0'); id > maxTokenizer {
					return fmt.Errorf("token id %d is too large", id)
				}
			}
			v.max, v.size = max(v.max, id), v.size+1
			i--
		case c != ':' && c != ',' && c != '}' && c != ' ' && c != '\n' && c != '\r' && c != '\t':
			return fmt.Errorf("found %q where a token id belongs", c)
		}
	}
	return nil
}
