package hub

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/weights/hub/hubtest"
)

// TestCacheDirectory checks the precedence of the variables, which is
// huggingface_hub's.
func TestCacheDirectory(t *testing.T) {
	for _, test := range []struct {
		name string
		env  map[string]string
		want string
	}{
		{"default", nil, "/home/u/.cache/huggingface/hub"},
		{"XDG", map[string]string{"XDG_CACHE_HOME": "/x"}, "/x/huggingface/hub"},
		{"home", map[string]string{"XDG_CACHE_HOME": "/x", "HF_HOME": "/h"}, "/h/hub"},
		{"legacy cache", map[string]string{"HF_HOME": "/h", "HUGGINGFACE_HUB_CACHE": "/l"}, "/l"},
		{"cache", map[string]string{"HF_HOME": "/h", "HUGGINGFACE_HUB_CACHE": "/l", "HF_HUB_CACHE": "/c"}, "/c"},
		{"cache of sentence-transformers", map[string]string{"HF_HOME": "/h", "HF_HUB_CACHE": "/c", "SENTENCE_TRANSFORMERS_HOME": "~/s"}, "/home/u/s"},
		{"tilde", map[string]string{"HF_HOME": "~/h"}, "/home/u/h/hub"},
		{"only a tilde", map[string]string{"HF_HUB_CACHE": "~"}, "/home/u"},
		{"variables", map[string]string{"HF_HUB_CACHE": "/c/$XDG_CACHE_HOME/${NOT_SET}", "XDG_CACHE_HOME": "x"}, "/c/x/$NOT_SET"},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, name := range []string{"XDG_CACHE_HOME", "HF_HOME", "HUGGINGFACE_HUB_CACHE", "HF_HUB_CACHE", "SENTENCE_TRANSFORMERS_HOME", "HF_ENDPOINT"} {
				t.Setenv(name, test.env[name])
			}
			t.Setenv("HOME", "/home/u")
			if c, err := FromEnvironment(); err != nil || c.Cache() != test.want {
				t.Errorf("got %q, %v, want %q", c.Cache(), err, test.want)
			}
		})
	}
}

func TestEndpoint(t *testing.T) {
	for in, want := range map[string]string{"": defaultEndpoint, "https://mirror.example/hf/": "https://mirror.example/hf", "http://127.0.0.1:80": "http://127.0.0.1:80"} {
		t.Setenv("HF_ENDPOINT", in)
		if c, err := FromEnvironment(); err != nil || c.endpoint.String() != want {
			t.Errorf("%q: got %v, %v, want %q", in, c.endpoint, err, want)
		}
	}
	for _, in := range []string{"huggingface.co", "ftp://x", "https://", "/dir", "https://x?y=z", "https://x/%zz", "https://me:" + token + "@%zz"} {
		t.Setenv("HF_ENDPOINT", in)
		_, err := FromEnvironment()
		wantError(t, err, "HF_ENDPOINT", defaultEndpoint)
	}
}

func TestToken(t *testing.T) {
	hubtest.New(t).Use(t)
	home := os.Getenv("HF_HOME")
	other := filepath.Join(t.TempDir(), "token")
	writeFile(t, other, []byte("\nhf_other\r\n"))
	check := func(want, wantFrom string) {
		t.Helper()
		if got, from, err := readToken(); err != nil || got != want || from != wantFrom {
			t.Errorf("got %q from %q, %v, want %q from %q", got, from, err, want, wantFrom)
		}
	}
	check("", "")
	writeFile(t, filepath.Join(home, "token"), []byte("hf_file\n"))
	check("hf_file", filepath.Join(home, "token"))
	t.Setenv("HF_TOKEN_PATH", other)
	check("hf_other", other)
	t.Setenv("HUGGING_FACE_HUB_TOKEN", "hf_legacy")
	check("hf_legacy", "HUGGING_FACE_HUB_TOKEN")
	t.Setenv("HF_TOKEN", " "+token+"\n")
	check(token, "HF_TOKEN")
	t.Setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
	check("", "")
	t.Setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "0")
	t.Setenv("HF_TOKEN", token+"\x01x")
	_, _, err := readToken()
	wantError(t, err, "HF_TOKEN", "an invalid character")
	t.Setenv("HF_TOKEN", "")
	t.Setenv("HUGGING_FACE_HUB_TOKEN", "")
	writeFile(t, other, []byte(strings.Repeat("x", maxToken+1)))
	_, _, err = readToken()
	wantError(t, err, other, "more than")
}

func TestIsTrue(t *testing.T) {
	for value, want := range map[string]bool{"1": true, "on": true, "Yes": true, "TRUE": true, "": false, "0": false, "false": false, "2": false} {
		if isTrue(value) != want {
			t.Errorf("%q is %v, want %v", value, !want, want)
		}
	}
}
