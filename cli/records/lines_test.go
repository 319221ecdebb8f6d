package records

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

func TestLines(t *testing.T) {
	long := strings.Repeat("x", 300<<10)
	tests := []struct {
		name, text string
		want       []string
		numbers    []int
	}{
		{"empty", "", nil, nil},
		{"no newline at the end", "a\nb", []string{"a", "b"}, []int{1, 2}},
		{"blank lines are lines", "\n \t\na\n\r\nb\n\n", []string{"", " \t", "a", "", "b", ""}, []int{1, 2, 3, 4, 5, 6}},
		{"carriage returns at the end go", "a\r\nb\rc\r\r\n", []string{"a", "b\rc"}, []int{1, 2}},
		{"byte order marks go at the start of any line", "\ufeffa\n\ufeffb\ufeff\n", []string{"a", "b\ufeff"}, []int{1, 2}},
		{"only a byte order mark", "\ufeff\na", []string{"", "a"}, []int{1, 2}},
		{"long lines", long + "\na\n" + long, []string{long, "a", long}, []int{1, 2, 3}},
		{"separators that end no line", "a\u2028b\u2029c\u0085d\fe\vf\n", []string{"a\u2028b\u2029c\u0085d\fe\vf"}, []int{1}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := NewLines("f", strings.NewReader(test.text))
			var got []string
			var numbers []int
			for {
				line, err := l.Next()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				got, numbers = append(got, string(line)), append(numbers, l.number)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got %.80q, want %.80q", got, test.want)
			}
			if !slices.Equal(numbers, test.numbers) {
				t.Errorf("line numbers %v, want %v", numbers, test.numbers)
			}
		})
	}
}

func TestLinesErrors(t *testing.T) {
	broken := io.MultiReader(strings.NewReader("a\nb"), iotest.ErrReader(errors.New("disk on fire")))
	endless := io.MultiReader(strings.NewReader("a\n"), letters{})
	for _, test := range []struct {
		name string
		r    io.Reader
		want string
	}{
		{"read error", broken, "read f: line 2: disk on fire"},
		{"no newline for ever", endless, "f: line 2: longer than 64 MiB"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := NewLines("f", test.r)
			if _, err := l.Next(); err != nil {
				t.Fatal(err)
			}
			if _, err := l.Next(); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got error %v, want %q", err, test.want)
			}
		})
	}
}

type letters struct{}

func (letters) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// TestLinesReadAfterLongLine continues after a line that is too long.
func TestLinesReadAfterLongLine(t *testing.T) {
	for _, end := range []string{"", "\n", "\nb", "\nb\n"} {
		text := "a\n" + strings.Repeat("x", maxLine+100) + end
		l := NewLines("f", strings.NewReader(text))
		var got []string
		for {
			line, err := l.read()
			if errors.Is(err, io.EOF) {
				break
			}
			if errors.Is(err, errTooLong) {
				line = []byte("too long")
			} else if err != nil {
				t.Fatal(err)
			}
			got = append(got, string(line))
		}
		want := []string{"a", "too long"}
		if strings.Contains(end, "b") {
			want = append(want, "b")
		}
		if !slices.Equal(got, want) {
			t.Errorf("behind %q: got %q, want %q", end, got, want)
		}
		if l.number != len(want) {
			t.Errorf("behind %q: %d lines, want %d", end, l.number, len(want))
		}
		if p, sum := l.position(), sha256.Sum256([]byte(text)); p.Offset != int64(len(text)) || !bytes.Equal(p.Sum, sum[:]) {
			t.Errorf("behind %q: position %d, want %d, or a wrong sum", end, p.Offset, len(text))
		}
	}
}

// TestLinesSkip continues from every position between lines.
func TestLinesSkip(t *testing.T) {
	const text = "\ufeffa\n\nbc\r\n\nd\ne"
	changed := errors.New("changed")
	rest := func(l *Lines) (lines []string, numbers []int) {
		for {
			line, err := l.Next()
			if errors.Is(err, io.EOF) {
				return lines, numbers
			}
			if err != nil {
				t.Fatal(err)
			}
			lines, numbers = append(lines, string(line)), append(numbers, l.number)
		}
	}
	for n := range 6 {
		first := NewLines("f", strings.NewReader(text))
		for range n {
			if _, err := first.Next(); err != nil {
				t.Fatal(err)
			}
		}
		at := first.position()
		second := NewLines("f", strings.NewReader(text))
		if err := second.skip(at, changed); err != nil {
			t.Fatal(err)
		}
		lines, numbers := rest(first)
		gotLines, gotNumbers := rest(second)
		if !slices.Equal(gotLines, lines) || !slices.Equal(gotNumbers, numbers) {
			t.Errorf("behind %d lines: got %q %v, want %q %v", n, gotLines, gotNumbers, lines, numbers)
		}
		for _, other := range []string{strings.Replace(text, "a", "A", 1), ""} {
			if err := NewLines("f", strings.NewReader(other)).skip(at, changed); n > 0 && !errors.Is(err, changed) {
				t.Errorf("behind %d lines of %q: got %v, want %v", n, other, err, changed)
			}
		}
	}
}
