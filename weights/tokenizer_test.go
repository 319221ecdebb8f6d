package weights

import (
	"path/filepath"
	"testing"

	"github.com/mlxrank/mlxrank/weights/weightstest"
)

func TestTokenizerConfig(t *testing.T) {
	yes, no := true, false
	tests := []struct {
		text   string
		want   TokenizerConfig
		length int // of the model, which has 128 positions
	}{
		{`{}`, TokenizerConfig{}, 128},
		{`{"model_max_length":64,"do_lower_case":false,"strip_accents":null}`, TokenizerConfig{DoLowerCase: &no, ModelMaxLength: 64}, 64},
		{`{"model_max_length":512,"strip_accents":true}`, TokenizerConfig{StripAccents: &yes, ModelMaxLength: 512}, 128},
		{`{"model_max_length":1000000000000000019884624838656,"tokenize_chinese_chars":false}`, TokenizerConfig{TokenizeChineseChars: &no}, 128},
		{`{"model_max_length":1e30}`, TokenizerConfig{}, 128},
		{`{"model_max_length":null}`, TokenizerConfig{}, 128},
	}
	same := func(a, b *bool) bool { return (a == nil) == (b == nil) && (a == nil || *a == *b) }
	for _, test := range tests {
		dir := tinyDir(t)
		weightstest.WriteFile(t, filepath.Join(dir, tokenizerConfigFile), []byte(test.text))
		m := openModel(t, dir, Options{})
		g, w := m.TokenizerConfig, test.want
		if !same(g.DoLowerCase, w.DoLowerCase) || !same(g.StripAccents, w.StripAccents) ||
			!same(g.TokenizeChineseChars, w.TokenizeChineseChars) || g.ModelMaxLength != w.ModelMaxLength {
			t.Errorf("%s: got %+v, want %+v", test.text, g, w)
		}
		if m.MaxLength != test.length {
			t.Errorf("%s: maximum length %d, want %d", test.text, m.MaxLength, test.length)
		}
	}
	for _, length := range []string{"1", "2"} {
		dir := tinyDir(t)
		weightstest.WriteFile(t, filepath.Join(dir, tokenizerConfigFile), []byte(`{"model_max_length":`+length+`}`))
		_, err := Open(t.Context(), dir, Options{})
		wantError(t, err, "a maximum length of "+length+" tokens", "special tokens are 3")
	}
	for text, want := range map[string]string{
		`{"model_max_length":0}`:     "model_max_length is 0",
		`{"model_max_length":-1}`:    "model_max_length is -1",
		`{"do_lower_case":"yes"}`:    "do_lower_case",
		`{"model_max_length":1e999}`: "model_max_length",
	} {
		_, err := parseTokenizerConfig([]byte(text))
		wantError(t, err, want)
	}
}
