package hub

import (
	"strings"
	"testing"
)

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
