package output

import (
	"bytes"
	"strings"
	"testing"
)

func TestTable(t *testing.T) {
	tab := Table{Header: []string{"rank", "score", "line", "document"}}
	tab.Add("1", "0.9871", "12", "An image editor that does a lot of things at once")
	tab.Add("2", "-4.3200", "3", "画像を編集するためのプログラムです。とても便利。")
	tab.Add("10", "0.0001", "107", "👩‍👩‍👧 family and e\u0301 combining")
	var b bytes.Buffer
	if err := tab.Write(&b, 50); err != nil {
		t.Fatal(err)
	}
	want := strings.Join([]string{
		"rank    score  line  document",
		"   1   0.9871    12  An image editor that does a …",
		"   2  -4.3200     3  画像を編集するためのプログラ…",
		"  10   0.0001   107  👩‍👩‍👧 family and e\u0301 combining",
		"",
	}, "\n")
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	for _, line := range strings.Split(b.String(), "\n") {
		if width := Display.StringWidth(line); width > 50 {
			t.Errorf("line of %d columns: %s", width, line)
		}
	}
}

func TestSnippet(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"", ""},
		{"  a \t b\r\n\n c\u00a0d ", "a b c d"},
		{"a\x1b[31mred\x07\x00\x7fb\u0085c", "a[31mredb c"},
		{"left\u202eright\u2066x", "leftrightx"},
		{"a\xffb", "a\ufffdb"},
		{"日本 é 😀", "日本 é 😀"},
	} {
		if got := Snippet(test.text); got != test.want {
			t.Errorf("snippet(%q) = %q, want %q", test.text, got, test.want)
		}
	}
}
