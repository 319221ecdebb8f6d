package weights

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/weights/weightstest"
)

// TestMaxLength checks the length limit and which file sets it.
func TestMaxLength(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct {
		length int // of the model, which has 128 positions
		file   string
	}{
		`{}`:                        {128, configFile},
		`{"model_max_length":64}`:   {64, tokenizerConfigFile},
		`{"model_max_length":512}`:  {128, configFile},
		`{"model_max_length":1e30}`: {128, configFile},
		`{"model_max_length":1000000000000000019884624838656}`: {128, configFile},
		`{"model_max_length":null}`:                            {128, configFile},
		`{"max_len":64}`:                                       {64, tokenizerConfigFile},
	} {
		dir := tinyDir(t)
		weightstest.WriteFile(t, filepath.Join(dir, tokenizerConfigFile), []byte(text))
		m := openModel(t, dir, Options{})
		if m.MaxLength != want.length || m.MaxLengthFile != want.file {
			t.Errorf("%s: %d tokens by %s, want %d by %s", text, m.MaxLength, m.MaxLengthFile, want.length, want.file)
		}
	}
}

// TestSettingsRefused checks that errors name a fault in a settings file, and an
// unsupported setting that would change ids or scores.
func TestSettingsRefused(t *testing.T) {
	t.Parallel()
	modules := `[{"idx":0,"name":"0","path":"","type":"sentence_transformers.base.modules.transformer.Transformer"}]`
	saved := func(config, bert string) map[string]string {
		return map[string]string{modulesFile: modules, sentenceConfigFile: config, sentenceBertFile: bert}
	}
	const cross, task = `{"model_type":"CrossEncoder"}`, `"transformer_task":"sequence-classification"`
	tests := []struct {
		files map[string]string
		want  []string
	}{
		{map[string]string{tokenizerConfigFile: `{"model_max_length":0}`}, []string{tokenizerConfigFile, "model_max_length is 0"}},
		{map[string]string{tokenizerConfigFile: `{"model_max_length":2}`}, []string{"is 2 tokens", "at least 3 for the special tokens"}},
		{map[string]string{tokenizerConfigFile: `{"model_max_length":-1}`}, []string{"model_max_length is -1"}},
		{map[string]string{tokenizerConfigFile: `{"do_lower_case":"yes"}`}, []string{"do_lower_case", "a string"}},
		{map[string]string{tokenizerConfigFile: `{"do_lower_case":null}`}, []string{"do_lower_case is null", "expected true or false"}},
		{map[string]string{tokenizerConfigFile: `{"tokenize_chinese_chars":null}`}, []string{"tokenize_chinese_chars is null"}},
		{map[string]string{tokenizerConfigFile: `{"truncation_side":"up"}`}, []string{`truncation_side is "up"`}},
		{map[string]string{tokenizerConfigFile: `{"tokenizer_class":"RobertaTokenizer"}`}, []string{`"WordPiece"`, `RobertaTokenizer needs "BPE"`}},
		{map[string]string{tokenizerConfigFile: `{"tokenizer_class":"XLNetTokenizer"}`}, []string{`"XLNetTokenizer" is not supported`}},
		{map[string]string{tokenizerConfigFile: `{"split_special_tokens":true}`}, []string{"split_special_tokens"}},
		{map[string]string{tokenizerConfigFile: `{"fast_tokenizer_files":["tokenizer.4.0.json"]}`}, []string{"fast_tokenizer_files"}},
		{map[string]string{tokenizerConfigFile: `{"chat_template":"{{ x }}"}`}, []string{"chat_template"}},
		{map[string]string{chatTemplateFile: `{{ x }}`}, []string{chatTemplateFile}},
		{map[string]string{tokenizerConfigFile: `{"cls_token":null}`}, []string{"cls_token is null"}},
		{map[string]string{tokenizerConfigFile: `{"unk_token":"[NONE]"}`}, []string{`"[NONE]"`, "not in the vocabulary"}},
		{map[string]string{tokenizerConfigFile: `{"do_lower_case":true,"do_lower_case":false}`}, []string{"occurs twice"}},
		{map[string]string{tokenizerConfigFile: `{"added_tokens_decoder":{"-1":{"content":"x"}}}`}, []string{"added_tokens_decoder", "-1"}},
		{map[string]string{tokenizerConfigFile: `{"added_tokens_decoder":{"1":{"content":"x","colour":1}}}`}, []string{"colour"}},
		{map[string]string{addedTokensFile: `{"x":-1}`}, []string{addedTokensFile, "-1"}},
		{map[string]string{specialTokensFile: `{"cls_token":3}`}, []string{specialTokensFile, "cls_token"}},
		{saved(`{"model_type":"CrossEncoder","default_prompt_name":"q","prompts":{"a":"b"}}`, `{`+task+`}`), []string{sentenceConfigFile, `default_prompt_name is "q"`, "a"}},
		{saved(cross, `{`+task+`,"pooling":"mean"}`), []string{sentenceBertFile, `unknown field "pooling"`}},
		{saved(cross, `{}`), []string{sentenceBertFile, "missing"}},
		{saved(cross, `{"max_seq_length":8}`), []string{"transformer_task"}},
		{saved(cross, `{`+task+`,"max_seq_length":0}`), []string{"max_seq_length is 0"}},
		{saved(cross, `{`+task+`,"tokenizer_name_or_path":"other"}`), []string{"tokenizer_name_or_path"}},
		{saved(cross, `{`+task+`,"config_kwargs":{"hidden_act":"relu"}}`), []string{"config_kwargs", "hidden_act"}},
		{saved(cross, `{`+task+`,"processing_kwargs":{"text":{"truncation":"only_second"}}}`), []string{"processing_kwargs", "only_second"}},
		{saved(cross, `{`+task+`,"modality_config":{"message":{"method":"forward","method_output_name":"logits"}}}`), []string{"modality_config"}},
		{map[string]string{modulesFile: `[]`, sentenceConfigFile: cross}, []string{modulesFile, "0 modules"}},
		{map[string]string{modulesFile: strings.Replace(modules, `"path":""`, `"path":"0_T"`, 1), sentenceConfigFile: cross}, []string{"0_T"}},
		{map[string]string{modulesFile: strings.Replace(modules, "sentence_transformers.", "mine.", 1), sentenceConfigFile: cross}, []string{"mine."}},
	}
	for _, test := range tests {
		dir := tinyDir(t)
		for name, text := range test.files {
			weightstest.WriteFile(t, filepath.Join(dir, name), []byte(text))
		}
		m, err := Open(t.Context(), dir, Options{})
		if err == nil {
			closeModel(t, m)
			t.Errorf("%v: no error", test.files)
			continue
		}
		wantError(t, err, test.want...)
	}
}

// TestSettingsWarned checks that warnings name the settings that are ignored.
func TestSettingsWarned(t *testing.T) {
	t.Parallel()
	tests := []struct {
		file, text string
		want       []string // nil: no warning
	}{
		{tokenizerConfigFile, `{"tokenizer_class":"BertTokenizer","do_basic_tokenize":true,"never_split":null,"padding_side":"right"}`, nil},
		{tokenizerConfigFile, `{"do_basic_tokenize":false,"wordsplitting":3,"padding_side":"left"}`, []string{tokenizerConfigFile, "do_basic_tokenize", "wordsplitting", "padding_side"}},
		{sentenceConfigFile, `{"model_type":"CrossEncoder","prompts":{"a":"b"},"default_prompt_name":"a"}`, []string{sentenceConfigFile, modulesFile, "missing"}},
		{sentenceConfigFile, `{"__version__":{"sentence_transformers":"2.0.0"}}`, nil},
	}
	for _, test := range tests {
		dir := tinyDir(t)
		weightstest.WriteFile(t, filepath.Join(dir, test.file), []byte(test.text))
		m := openModel(t, dir, Options{})
		got := strings.Join(m.Warnings, "\n")
		for _, want := range test.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s: warnings %q lack %q", test.text, got, want)
			}
		}
		if test.want == nil && got != "" {
			t.Errorf("%s: warnings %q, want none", test.text, got)
		}
	}
}

// TestUnknownSentenceSettingWarned checks that a warning names an unknown setting
// of a saved CrossEncoder.
func TestUnknownSentenceSettingWarned(t *testing.T) {
	t.Parallel()
	for config, want := range map[string]string{
		`{"model_type":"CrossEncoder","novelty":1}`: sentenceConfigFile + ": unknown settings are ignored: novelty",
		`{"model_type":"CrossEncoder"}`:             "",
	} {
		dir := tinyDir(t)
		for name, text := range map[string]string{
			modulesFile:        `[{"idx":0,"name":"0","path":"","type":"sentence_transformers.base.modules.transformer.Transformer"}]`,
			sentenceBertFile:   `{"max_seq_length":32,"transformer_task":"sequence-classification"}`,
			sentenceConfigFile: config,
		} {
			weightstest.WriteFile(t, filepath.Join(dir, name), []byte(text))
		}
		if got := strings.Join(openModel(t, dir, Options{}).Warnings, "\n"); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%s: warnings %q, want %q", config, got, want)
		}
	}
}
