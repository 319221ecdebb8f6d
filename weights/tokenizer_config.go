package weights

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	tokenizerConfigFile = "tokenizer_config.json"
	specialTokensFile   = "special_tokens_map.json"
	addedTokensFile     = "added_tokens.json"
	chatTemplateFile    = "chat_template.jinja"
	// absurdLength is the model_max_length from which on there is no limit:
	// Hugging Face writes 1e30 for "none".
	absurdLength = 1 << 24
)

// readTokenizerSettings reads the files beside tokenizer.json. configClass is the
// tokenizer class in config.json.
func (m *Model) readTokenizerSettings(configClass string, sentence sentenceSettings) (tokenizerSettings, error) {
	config, err := m.readFields(configFile)
	if err != nil {
		return tokenizerSettings{}, err
	}
	fields, err := m.readFields(tokenizerConfigFile)
	if err != nil {
		return tokenizerSettings{}, err
	}
	all := map[string]jsontext.Value{}
	maps.Copy(all, fields)
	maps.Copy(all, sentence.tokenizer)
	s, err := parseTokenizerConfig(all, configClass, unquote(config["model_type"]))
	if err == nil && !sentence.saved && unquote(all["chat_template"]) != "" {
		err = errors.New("chat_template is not supported: CrossEncoder would format pairs with it")
	}
	if err != nil {
		return s, fmt.Errorf("%s: %w", filepath.Join(m.Dir, tokenizerConfigFile), err)
	}
	if !sentence.saved && exists(m.Dir, chatTemplateFile) {
		return s, fmt.Errorf("%s is not supported: CrossEncoder would format pairs with it", filepath.Join(m.Dir, chatTemplateFile))
	}
	if len(s.unused) > 0 {
		m.warn("%s: unknown settings are ignored: %s", tokenizerConfigFile, strings.Join(s.unused, ", "))
	}
	if s.whole {
		return s, nil
	}
	return s, m.readLegacyTokens(&s)
}

// parseTokenizerConfig parses the members of tokenizer_config.json.
func parseTokenizerConfig(fields map[string]jsontext.Value, configClass, modelType string) (tokenizerSettings, error) {
	s := tokenizerSettings{lowercase: true, chineseChars: true}
	if err := s.parseClass(fields, configClass, modelType); err != nil {
		return s, err
	}
	for _, step := range []func(map[string]jsontext.Value) error{
		s.parseSwitches, s.parseLength, s.parseSide, s.parseInputNames, s.parseTokens, s.parseDecoder, s.checkRest,
	} {
		if err := step(fields); err != nil {
			return s, err
		}
	}
	return s, nil
}

func (s *tokenizerSettings) parseClass(fields map[string]jsontext.Value, configClass, modelType string) error {
	var name *string
	if err := decodeField(fields, "tokenizer_class", &name); err != nil {
		return err
	}
	var err error
	s.class, err = findTokenizerClass(cmp.Or(valueOr(name, ""), configClass), modelType)
	return err
}

// parseSwitches parses the settings of the parts that a class builds itself.
func (s *tokenizerSettings) parseSwitches(fields map[string]jsontext.Value) error {
	if s.class.kind == Unigram || s.class.kind == BPE {
		if raw := fields["add_prefix_space"]; raw.Kind() == 'n' {
			s.prefixSpace = new(bool) // in Python null counts as false
			return nil
		}
		return decodeField(fields, "add_prefix_space", &s.prefixSpace)
	}
	if s.class.kind != WordPiece {
		return nil
	}
	for _, f := range []struct {
		name string
		to   *bool
	}{{"do_lower_case", &s.lowercase}, {"tokenize_chinese_chars", &s.chineseChars}} {
		if raw, ok := fields[f.name]; ok && raw.Kind() == 'n' {
			return fmt.Errorf("%s is null, expected true or false; remove it for the default, true", f.name)
		}
		if err := decodeField(fields, f.name, f.to); err != nil {
			return err
		}
	}
	return decodeField(fields, "strip_accents", &s.stripAccents)
}

func (s *tokenizerSettings) parseLength(fields map[string]jsontext.Value) error {
	name := "model_max_length"
	if _, ok := fields[name]; !ok {
		name = "max_len"
	}
	var value *float64
	if err := decodeField(fields, name, &value); err != nil {
		return err
	}
	length := valueOr(value, absurdLength)
	if length < 1 {
		return fmt.Errorf("%s is %v, expected at least 1", name, length)
	}
	if length < absurdLength {
		s.maxLength = int(length)
	}
	return nil
}

func (s *tokenizerSettings) parseSide(fields map[string]jsontext.Value) error {
	raw, ok := fields["truncation_side"]
	if !ok {
		return nil
	}
	if s.side = Side(unquote(raw)); s.side != Left && s.side != Right {
		return fmt.Errorf("truncation_side is %s, expected \"left\" or \"right\"", raw)
	}
	return nil
}

func (s *tokenizerSettings) parseInputNames(fields map[string]jsontext.Value) error {
	s.typeIDs = s.class.typeIDs
	if _, ok := fields["model_input_names"]; !ok {
		return nil
	}
	var names []string
	if err := decodeField(fields, "model_input_names", &names); err != nil {
		return err
	}
	s.typeIDs = slices.Contains(names, "token_type_ids")
	return nil
}

// parseTokens parses the special tokens: those with the names of transformers,
// those with names that the model chose, and those without a name.
func (s *tokenizerSettings) parseTokens(fields map[string]jsontext.Value) error {
	names := slices.Clone(namedTokens)
	for _, name := range sortedKeys(fields) {
		if strings.HasSuffix(name, "_token") && !slices.Contains(names, name) && (fields[name].Kind() == '"' || fields[name].Kind() == '{') {
			names = append(names, name)
		}
	}
	for _, name := range names {
		if err := s.parseNamed(name, fields[name]); err != nil {
			return err
		}
	}
	extra := fields["extra_special_tokens"]
	if isNull(extra) || string(extra) == "[]" || string(extra) == "{}" {
		extra = fields["additional_special_tokens"]
	}
	if isNull(extra) {
		s.extra = s.class.extra
	}
	return s.parseExtra(extra)
}

// parseNamed sets a named token. null means no token; it is an error for a token
// that the class needs.
func (s *tokenizerSettings) parseNamed(name string, raw jsontext.Value) error {
	spelled, own := s.class.tokens[name]
	switch {
	case len(raw) == 0 && own:
		s.setNamed(name, specialToken(spelled))
	case isNull(raw) && own && slices.Contains(s.class.needs, name):
		return fmt.Errorf("%s is null, expected a token", name)
	case isNull(raw):
	default:
		token, err := parseTokenValue(raw)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		s.setNamed(name, token)
	}
	return nil
}

func (s *tokenizerSettings) parseExtra(raw jsontext.Value) error {
	if isNull(raw) {
		return nil
	}
	if raw.Kind() == '{' { // with names
		var named map[string]jsontext.Value
		if err := decode(raw, &named); err != nil {
			return err
		}
		for _, name := range sortedKeys(named) {
			if err := s.parseNamed(name, named[name]); err != nil {
				return err
			}
		}
		return nil
	}
	var list []jsontext.Value
	if err := decode(raw, &list); err != nil {
		return fmt.Errorf("extra_special_tokens: %w", err)
	}
	for _, item := range list {
		token, err := parseTokenValue(item)
		if err != nil {
			return fmt.Errorf("extra_special_tokens: %w", err)
		}
		s.extra = append(s.extra, token)
	}
	return nil
}

func specialToken(content string) AddedToken { return AddedToken{Content: content, Special: true} }

// parseTokenValue parses a token, which is a string or an object.
func parseTokenValue(raw jsontext.Value) (AddedToken, error) {
	if raw.Kind() == '"' {
		token := specialToken(unquote(raw))
		return token, checkToken(token.Content)
	}
	var v struct {
		Content    string `json:"content"`
		SingleWord bool   `json:"single_word"`
		LStrip     bool   `json:"lstrip"`
		RStrip     bool   `json:"rstrip"`
		Normalized *bool  `json:"normalized"`
		Special    bool   `json:"special"`
		Type       string `json:"__type"`
	}
	if err := decode(raw, &v); err != nil {
		return AddedToken{}, err
	}
	return AddedToken{
		Content: v.Content, SingleWord: v.SingleWord, LStrip: v.LStrip, RStrip: v.RStrip,
		Normalized: valueOr(v.Normalized, !v.Special), Special: v.Special,
	}, checkToken(v.Content)
}

// parseDecoder parses added_tokens_decoder. If it exists, BertTokenizer ignores
// the older files and the added tokens of tokenizer.json.
func (s *tokenizerSettings) parseDecoder(fields map[string]jsontext.Value) error {
	const name = "added_tokens_decoder"
	raw, ok := fields[name]
	s.decoder = map[int]AddedToken{}
	if !ok {
		return nil
	}
	s.whole = true
	var tokens map[string]jsontext.Value
	if err := decode(raw, &tokens); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if len(tokens) > maxAddedTokens {
		return fmt.Errorf("%s: %d tokens (limit %d)", name, len(tokens), maxAddedTokens)
	}
	for key, raw := range tokens {
		id, err := strconv.Atoi(key)
		if err != nil || id < 0 || id > maxTokenID {
			return fmt.Errorf("%s: id %.40q, expected 0 to %d", name, key, maxTokenID)
		}
		token, err := parseTokenValue(raw)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		s.decoder[id] = token
	}
	return nil
}

// readLegacyTokens reads the files that replace added_tokens_decoder if
// tokenizer_config.json has none.
func (m *Model) readLegacyTokens(s *tokenizerSettings) error {
	special, err := m.readFields(specialTokensFile)
	if err != nil {
		return err
	}
	if err := s.parseSpecialTokens(special); err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(m.Dir, specialTokensFile), err)
	}
	added, err := m.readFields(addedTokensFile)
	if err != nil {
		return err
	}
	if err := s.parseAdded(added); err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(m.Dir, addedTokensFile), err)
	}
	return nil
}

// parseSpecialTokens parses special_tokens_map.json, which overrides
// tokenizer_config.json.
func (s *tokenizerSettings) parseSpecialTokens(fields map[string]jsontext.Value) error {
	for _, name := range sortedKeys(fields) {
		raw := fields[name]
		if name == "additional_special_tokens" || name == "extra_special_tokens" {
			if err := s.parseExtra(raw); err != nil {
				return err
			}
			continue
		}
		if isNull(raw) {
			continue
		}
		token, err := parseTokenValue(raw)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		token.Special = true
		s.setNamed(name, token)
	}
	return nil
}

// parseAdded parses added_tokens.json, a map from texts to ids.
func (s *tokenizerSettings) parseAdded(fields map[string]jsontext.Value) error {
	if len(fields) > maxAddedTokens {
		return fmt.Errorf("%d tokens (limit %d)", len(fields), maxAddedTokens)
	}
	for _, content := range sortedKeys(fields) {
		var id int
		if err := decode(fields[content], &id); err != nil || id < 0 || id > maxTokenID {
			return fmt.Errorf("token %.40q has the id %.40s, expected 0 to %d", content, fields[content], maxTokenID)
		}
		if err := checkToken(content); err != nil {
			return err
		}
		token := AddedToken{Content: content, Special: s.isNamed(content)}
		token.Normalized = !token.Special
		s.decoder[id] = token
	}
	return nil
}

// tokenizerKeys lists the members of tokenizer_config.json that are supported, or
// do not affect the ids of a WordPiece tokenizer.
var tokenizerKeys = []string{
	"tokenizer_class", "do_lower_case", "strip_accents", "tokenize_chinese_chars", "model_max_length", "max_len", "truncation_side",
	"model_input_names", "added_tokens_decoder", "additional_special_tokens", "extra_special_tokens", "chat_template",
	"split_special_tokens", "fast_tokenizer_files", "do_basic_tokenize", "never_split", "clean_text", "wordpieces_prefix", "auto_map",

	"_commit_hash", "add_bos_token", "add_eos_token", "add_prefix_space", "backend", "clean_up_tokenization_spaces", "device_map", "errors", "from_slow",
	"full_tokenizer_file", "init_inputs", "is_local", "legacy", "local_files_only", "max_length", "model_type", "name_or_path", "pad_to_multiple_of",
	"pad_token_type_id", "padding", "padding_side", "processor_class", "return_tensors", "sp_model_kwargs", "special_tokens_map_file", "stride", "tokenizer_file",
	"tokenizer_version", "transformers_version", "trim_offsets", "trust_remote_code", "truncation", "truncation_strategy", "unk_id", "use_fast", "verbose", "vocab_file", "vocab_size",
}

// plainValues maps members to the values with which they change nothing.
// AutoTokenizer of transformers 5 ignores other values.
var plainValues = map[string][]string{
	"do_basic_tokenize": {"true"}, "never_split": {"null", "[]"}, "clean_text": {"true"}, "wordpieces_prefix": {`"##"`}, "auto_map": {"null", "{}"},
	// Padding on the left would shift the positions of the shorter pairs of a
	// batch. We score every pair as if it were alone, without padding.
	"padding_side": {"null", `"right"`},
}

// checkRest rejects settings that would change ids and are not supported. It
// collects unknown settings in unused.
func (s *tokenizerSettings) checkRest(fields map[string]jsontext.Value) error {
	var split bool
	var files []string
	if err := decodeField(fields, "split_special_tokens", &split); err != nil {
		return err
	}
	if split {
		return errors.New("split_special_tokens is not supported, expected false")
	}
	if err := decodeField(fields, "fast_tokenizer_files", &files); err != nil {
		return err
	}
	if i := slices.IndexFunc(files, func(name string) bool { return name != tokenizerFile }); i >= 0 {
		return fmt.Errorf("fast_tokenizer_files names %.40q, expected only %s", files[i], tokenizerFile)
	}
	for _, name := range sortedKeys(fields) {
		value := fields[name]
		if plain, ok := plainValues[name]; ok && !slices.Contains(plain, string(value)) || !slices.Contains(tokenizerKeys, name) && !strings.HasSuffix(name, "_token") {
			s.unused = append(s.unused, name)
		}
	}
	return nil
}
