package records

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"
)

const oldTopics = `

<top>
<head> Tipster Topic Description
<num> Number:  051
<dom> Domain:  International Economics
<title> Topic:  Airbus
Subsidies &amp; trade

<desc> Description:
How many are < 5?

<narr> Narrative:
A document.
</top>
<top>

<num> Number: 302</num>
<title> Polio </title>
</top>
`

func TestWriteTopics(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{oldTopics, "\n\n" + `{"_id":"51","desc":"How many are \u003c 5?","dom":"Domain: International Economics","head":"Tipster Topic Description","narr":"A document.","num":"051","query":"Airbus Subsidies \u0026 trade","title":"Airbus Subsidies \u0026 trade"}` +
			strings.Repeat("\n", 13) + `{"_id":"302","num":"302","query":"Polio","title":"Polio"}` + "\n"},
		{"\ufeff<?xml version=\"1.0\"?>\n<topics>\n<topic number=\"wt09-1\" type='x'>\n<query>a <b>b</b></query><subtopic number=\"1\">s</subtopic><subtopic number=\"2\">t</subtopic></topic>\n</topics>",
			"\n\n" + `{"_id":"wt09-1","num":"wt09-1","query":"a b","subtopic":"s t"}` + "\n"},
		{"<top><num>7<title>a</top><top><num>000<title>b</top>", `{"_id":"7","num":"7","query":"a","title":"a"}` + "\n" + `{"_id":"0","num":"000","query":"b","title":"b"}` + "\n"},
	} {
		if !IsTopics([]byte(test.text)) {
			t.Errorf("%.20q: not taken for topics", test.text)
		}
		var b bytes.Buffer
		n, err := WriteTopics(&b, "f", strings.NewReader(strings.TrimPrefix(test.text, "\ufeff")))
		if err != nil || b.String() != test.want || n != int64(b.Len()) {
			t.Errorf("got %d bytes\n%s, %v, want\n%s", n, &b, err, test.want)
		}
	}
	for _, text := range []string{"", "1\ttop", "<html>", "<topless>", `{"a":"<top>"}`} {
		if IsTopics([]byte(text)) {
			t.Errorf("%q is taken for topics", text)
		}
	}
}

func TestWriteTopicsErrors(t *testing.T) {
	for text, want := range map[string]string{
		"<topics></topics>":                        "f: no topics; expected <top>",
		"<top>\n<num> Number: 1\n<title> a":        "f: line 1: the topic does not end; is the file truncated?",
		"\n<top>\n<num> 1\n<top>":                  "f: line 4: a topic begins inside the topic of line 2",
		"\n<top><title> a </top>":                  "f: line 2: the topic has no number",
		"<top><num> 1 <desc> a </top>":             `f: line 1: topic "1" has no title and no query; found desc, num`,
		"<top>\n<num> 1 <title> caf\xe9 </top>":    "f: line 2: not UTF-8",
		"<top><num> 1 <title>" + "\x00" + "</top>": "f: line 1: NUL byte",
	} {
		var b bytes.Buffer
		if _, err := WriteTopics(&b, "f", strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

// FuzzTopics checks that any bytes make texts with ids, or a short error.
func FuzzTopics(f *testing.F) {
	f.Add([]byte(oldTopics))
	f.Add([]byte(`<topics><topic number="1"><query>a</query></topic></topics>`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var b bytes.Buffer
		if _, err := WriteTopics(&b, "f", bytes.NewReader(data)); err != nil {
			if len(err.Error()) > 700 {
				t.Errorf("error of %d bytes", len(err.Error()))
			}
			return
		}
		texts, err := IndexTexts("f", TextsOptions{Queries: true, Objects: true}, bytes.NewReader(b.Bytes()), bytes.NewReader(b.Bytes()))
		if err != nil || texts.index.count == 0 || !utf8.Valid(b.Bytes()) {
			t.Errorf("%q becomes %q: %v", data, &b, err)
		}
	})
}
