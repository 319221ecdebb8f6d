package engine

import (
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestSplitSentences splits a README and lines of other texts.
func TestSplitSentences(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("testdata/sentences.md")
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string][]string{
		string(readme): {
			"Fetchling",
			"Fetchling downloads files, e.g. archives or images, and checks them as it\ngoes.",
			"It was written by J. R. Doe and Dr. Ada Smith et al. in 1999; see\nhttps://example.org/docs/a.b/index.html?page=2&q=x!y for its history.",
			"Version\n1.2.3 is the last one that runs on Debian 12.",
			"Does it resume?",
			"Yes!",
			"Installing",
			"Run `make install` as root.",
			"Nothing is left in /usr/local/lib, cf. Fig. 3\n   and Sec. 2.1 of the manual.",
			"Open fetchling.toml and set `cache.dir`.",
			"Start it:",
			"$ fetchling --config ./fetchling.toml https://example.org/x.tar.gz",
			"# Done. Bye.",
			"It prints a line.",
			"Small files are kept in memory, which costs up to 3.5 MB.",
			"Large ones\n  are not.",
			"Mirrors, i.e. other hosts",
			"| name | what it does. And more. |",
			"| -f   | Forces it.              |",
			"Ada Lovelace",
			"Charles Babbage",
			"Code stands apart:",
			"def main(): return 1. # Not a sentence. Really.",
			"The end is near... or not.",
			"These four long lines were wrapped by hand at some column, and the last of them is\nshort.",
		},
		"  First one.\tSecond (with e.g. dots) — and more!  三番目です。四番目です。\n\nLast \xff": {
			"First one.", "Second (with e.g. dots) — and more!", "三番目です。", "四番目です。", "Last \xff",
		},
		"One.\r\nTwo goes\r\non.\r\n\r\nThree": {"One.", "Two goes\r\non.", "Three"},
		"1. First. 2. Second.":                 {"First.", "2. Second."},
		"Plan B. Then C.":                      {"Plan B. Then C."}, // a single letter looks like an initial
		"":                                     nil,
		" \n\t":                                nil,
		"```\ncode":                            {"code"},
		"...":                                  {"..."},
	} {
		var got []string
		for _, s := range splitSentences(text) {
			got = append(got, text[s.Start:s.End])
		}
		if !slices.Equal(got, want) {
			t.Errorf("sentences of %.40q:\n%q, want\n%q", text, got, want)
		}
	}
}

// FuzzSplitSentences checks that the sentences of any text are within it, in
// order, disjoint and without white space at their ends. Only markers, rules and
// fences may lose letters or digits.
func FuzzSplitSentences(f *testing.F) {
	readme, err := os.ReadFile("testdata/sentences.md")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(readme))
	f.Add("a. b\n\n- c\n```\nd\n~~~\n```e\n1. f\r\n    g\n| h\n# i")
	f.Fuzz(func(t *testing.T, text string) {
		end := 0
		for _, s := range splitSentences(text) {
			if s.Start < end || s.End <= s.Start || s.End > len(text) || strings.TrimSpace(text[s.Start:s.End]) != text[s.Start:s.End] {
				t.Fatalf("%q: span %v after %d", text, s, end)
			}
			end = s.End
		}
	})
}

// TestSplitSentencesInTime checks that the time for texts that are hard to split grows
// with their length, and not with its square.
func TestSplitSentencesInTime(t *testing.T) {
	const longer = 16
	for name, part := range map[string]string{"no line end": "a. ", "dots": ".", "lines": "a\n", "initials": "A. "} {
		short := strings.Repeat(part, 1<<12)
		long := strings.Repeat(short, longer)
		growth := math.Inf(1)
		for range 5 { // other programs may run beside it
			start := time.Now()
			splitSentences(short)
			middle := time.Now()
			splitSentences(long)
			if growth = min(growth, float64(time.Since(middle))/float64(middle.Sub(start))); growth < 4*longer {
				break
			}
		}
		if growth >= 4*longer {
			t.Errorf("%s: %.0f times the time for %d times the text", name, growth, longer)
		}
		t.Logf("%s: %.0f times the time for %d times the text", name, growth, longer)
	}
}

func TestSentencesWithin(t *testing.T) {
	t.Parallel()
	text := "One two. Three four. Five six. Seven"
	for part, want := range map[Span][]string{
		{0, len(text)}: {"One two.", "Three four.", "Five six.", "Seven"},
		{4, 24}:        {"Three four."},
		{0, 20}:        {"One two.", "Three four."},
		{4, 12}:        {"two.", "Thr"}, // no whole sentence
		{10, 14}:       {"hree"},
		{8, 8}:         nil,
	} {
		var got []string
		for _, s := range sentencesWithin(text, part) {
			got = append(got, text[s.Start:s.End])
		}
		if !slices.Equal(got, want) {
			t.Errorf("within %v: %q, want %q", part, got, want)
		}
	}
}
