package spelling

import (
	"strings"
	"testing"
)

func TestNearest(t *testing.T) {
	t.Parallel()
	known := []string{"builtin", "rerank", "score", "env", "max-length", "top-n", "MLXRANK_MODEL"}
	for word, want := range map[string]string{
		"bultin":                        "builtin",
		"rank":                          "rerank",
		"rernak":                        "rerank",
		"scores":                        "score",
		"Score":                         "score",
		"max_length":                    "max-length",
		"MaxLenght":                     "max-length",
		"max_len":                       "max-length",
		"max":                           "",
		"MLXRANK_MDEL":                  "MLXRANK_MODEL",
		"top":                           "", // two edits of three characters
		"x":                             "",
		"":                              "",
		"en":                            "env",
		"frobnicate":                    "",
		"model":                         "",
		"bert-base-cased":               "",
		strings.Repeat("builtin", 1000): "",
	} {
		if got, ok := Nearest(word, known); got != want || ok != (want != "") {
			t.Errorf("%.40q: got %q, %v, want %q", word, got, ok, want)
		}
	}
}

func TestHint(t *testing.T) {
	t.Parallel()
	if got := Hint("modell", []string{"model"}, "--%s"); got != "; did you mean --model?" {
		t.Errorf("got %q", got)
	}
	if got := Hint("frob", []string{"model"}, "--%s"); got != "" {
		t.Errorf("got %q, want none", got)
	}
}
