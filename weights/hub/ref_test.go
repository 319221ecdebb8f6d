package hub

import (
	"strings"
	"testing"
)

func TestParseAddress(t *testing.T) {
	t.Setenv("HF_ENDPOINT", "https://hub.example:8443/")
	for in, want := range map[string]Ref{
		"https://huggingface.co/a/b":                                 {"a/b", "main"},
		"https://huggingface.co/a/b/":                                {"a/b", "main"},
		"http://huggingface.co/a/b":                                  {"a/b", "main"},
		"https://www.huggingface.co/a/b?library=x#usage":             {"a/b", "main"},
		"huggingface.co/a/b":                                         {"a/b", "main"},
		"hf.co/a/b":                                                  {"a/b", "main"},
		"https://hf.co/a/b/tree/main":                                {"a/b", "main"},
		"https://huggingface.co/a/b/tree/v1.0/onnx":                  {"a/b", "v1.0"},
		"https://huggingface.co/a/b/tree/refs%2Fpr%2F1":              {"a/b", "refs/pr/1"},
		"https://huggingface.co/a/b/tree/refs/pr/1":                  {"a/b", "refs/pr/1"},
		"https://huggingface.co/a/b/blob/main/config.json":           {"a/b", "main"},
		"https://huggingface.co/a/b/resolve/v2/model.safetensors":    {"a/b", "v2"},
		"https://huggingface.co/a/b/commit/c5ee24cb16019beea0893ab7": {"a/b", "c5ee24cb16019beea0893ab7"},
		"https://huggingface.co/a/b/discussions/3":                   {"a/b", "main"},
		"https://huggingface.co/a/b.git":                             {"a/b", "main"},
		"hf://a/b":                                                   {"a/b", "main"},
		"hf://a/b@v1":                                                {"a/b", "v1"},
		"https://hub.example:8443/a/b/tree/v1":                       {"a/b", "v1"},
		"hub.example:8443/a/b":                                       {"a/b", "main"},
	} {
		if got, err := ParseRef(in); err != nil || got != want || !IsAddress(in) {
			t.Errorf("%q: %+v, %v, want %+v", in, got, err, want)
		}
	}
	for in, words := range map[string][]string{
		"https://huggingface.co/datasets/a/b":         {"datasets", "https://huggingface.co/ORG/NAME"},
		"https://huggingface.co/bert-base-uncased":    {"no ORG/NAME"},
		"https://huggingface.co":                      {"no ORG/NAME"},
		"https://example.org/a/b":                     {"https://example.org is not a hub", "HF_ENDPOINT"},
		"https://huggingface.co.example.org/a/b":      {"is not a hub"},
		"ftp://huggingface.co/a/b":                    {"is not a hub"},
		"https://huggingface.co/a/b/tree/..%2F..%2Fx": {"revision"},
		"https://huggingface.co/..%2Fa/b":             {"ORG/NAME"},
		"https://huggingface.co/a/%zz":                {"not the URL"},
		"https://me:" + token + "@huggingface.co/a/b": {"not the URL"},
	} {
		ref, err := ParseRef(in)
		if err == nil {
			t.Fatalf("%q reads as %+v", in, ref)
		}
		wantError(t, err, words...)
	}
	for _, in := range []string{"a/b", "./a/b", "/a/b", "a/b@v1", "hf.co/b", "huggingface.co/b", "dir/sub/model"} {
		if IsAddress(in) {
			t.Errorf("%q is accepted as an address", in)
		}
	}
}

func TestParseRef(t *testing.T) {
	for in, want := range map[string]Ref{
		"cross-encoder/ms-marco-MiniLM-L-6-v2": {"cross-encoder/ms-marco-MiniLM-L-6-v2", "main"},
		"a/b":                                  {"a/b", "main"},
		"A_1/b.c-d@v1.0":                       {"A_1/b.c-d", "v1.0"},
		"a/b@refs/pr/1":                        {"a/b", "refs/pr/1"},
		"a/b@main":                             {"a/b", "main"},
		"a/_private":                           {"a/_private", "main"},
		"a/b@c5ee24cb16019beea0":               {"a/b", "c5ee24cb16019beea0"},
	} {
		got, err := ParseRef(in)
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v, want %+v", in, got, err, want)
		}
		if again, err := ParseRef(got.String()); err != nil || again != got {
			t.Errorf("%q: String gives %q, which reads as %+v, %v", in, got.String(), again, err)
		}
	}
	for _, in := range []string{
		"", "bert-base-uncased", "/", "a/", "/b", "a/b/c", "../b", "a/..", "./b", "a/.b", "a/b.", "a/-b", "a--b/c", "a/b..c",
		"a/b.git", "a b/c", "a/b\x00", "a/b\n", "ä/b", `a\b/c`, "a/b@", "a/b@/x", "a/b@x/", "a/b@x//y", "a/b@../x", "a/b@x/..", "a/b@x..y",
		"a/b@-x", "a/b@x y", "a/b@x@y", "a/b@x\x00", "a/b@x\\y", "a/" + strings.Repeat("b", 95), "a/b@" + strings.Repeat("c", 201), "~/model", "http://x/y",
	} {
		if ref, err := ParseRef(in); err == nil {
			t.Errorf("%q reads as %+v", in, ref)
		}
	}
}
