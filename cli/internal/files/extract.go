package files

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	extast "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/text"
	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
	"golang.org/x/net/html/charset"
)

// A textBuilder joins words by spaces and blocks by line ends.
type textBuilder struct {
	strings.Builder
	gap string // to write before the next text
}

// words appends text whose white space collapses, as in a browser.
func (b *textBuilder) words(s string) {
	if first, _ := utf8.DecodeRuneInString(s); unicode.IsSpace(first) {
		b.space()
	}
	for i, word := range strings.Fields(s) {
		if i > 0 {
			b.space()
		}
		b.write(word)
	}
	if last, _ := utf8.DecodeLastRuneInString(s); unicode.IsSpace(last) {
		b.space()
	}
}

// write appends text unchanged.
func (b *textBuilder) write(s string) {
	if b.Len() > 0 {
		b.WriteString(b.gap)
	}
	b.gap = ""
	b.WriteString(s)
}

func (b *textBuilder) space() {
	if b.gap == "" {
		b.gap = " "
	}
}

// block begins a new line.
func (b *textBuilder) block() { b.gap = "\n" }

// markdown parses GitHub's Markdown.
var markdown = goldmark.New(goldmark.WithExtensions(extension.GFM)).Parser()

// markdownText returns the text of Markdown, without its marks. Code stays, of HTML the
// text, and of links and images the words.
func markdownText(source []byte) string {
	var b textBuilder
	//nolint:errcheck // the visitor returns no error, so Walk returns none
	ast.Walk(markdown.Parse(text.NewReader(source)), func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if n.Type() == ast.TypeBlock && n.Kind() != extast.KindTableCell {
			b.block()
		}
		switch n := n.(type) {
		case *extast.TableCell:
			b.space()
		case *ast.FencedCodeBlock, *ast.CodeBlock:
			if entering {
				b.lines(n.Lines(), source)
			}
			return ast.WalkSkipChildren, nil
		case *ast.HTMLBlock:
			if entering {
				var raw bytes.Buffer
				raw.Write(n.Lines().Value(source))
				if n.HasClosure() {
					raw.Write(n.ClosureLine.Value(source))
				}
				b.html(&raw) //nolint:errcheck // memory has no read errors
			}
		case *ast.Text:
			if entering {
				value := n.Segment.Value(source)
				if !n.IsRaw() {
					value = unescape(value)
				}
				b.words(string(value))
				if n.SoftLineBreak() || n.HardLineBreak() {
					b.space()
				}
			}
		case *ast.String:
			if entering {
				b.words(string(n.Value))
			}
		case *ast.AutoLink:
			if entering {
				b.words(string(n.Label(source)))
			}
		}
		return ast.WalkContinue, nil
	})
	return b.String()
}

// unescape returns text without backslashes before punctuation, and with the
// characters of entities.
func unescape(s []byte) []byte {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) && s[i+1] < 0x80 && (unicode.IsPunct(rune(s[i+1])) || unicode.IsSymbol(rune(s[i+1]))) {
			i++
		}
		b.WriteByte(s[i])
	}
	return []byte(html.UnescapeString(b.String()))
}

// lines appends the lines of a block of code.
func (b *textBuilder) lines(lines *text.Segments, source []byte) {
	if code := strings.TrimRight(string(lines.Value(source)), "\n"); code != "" {
		b.write(code)
	}
}

// htmlFile returns the text of a page, in the encoding that it declares.
func htmlFile(data []byte) (string, error) {
	if bytes.IndexByte(data[:min(len(data), 512)], 0) >= 0 {
		return "", fmt.Errorf("%w: it has NUL bytes", errBinary)
	}
	r, err := charset.NewReader(bytes.NewReader(data), "")
	if err != nil {
		return "", err
	}
	var b textBuilder
	if err := b.html(r); err != nil {
		return "", err
	}
	return strings.ToValidUTF8(strings.ReplaceAll(b.String(), "\x00", ""), "\ufffd"), nil
}

// hiddenTags lists the elements whose contents are no text.
var hiddenTags = map[atom.Atom]bool{
	atom.Script: true, atom.Style: true, atom.Template: true, atom.Noscript: true, atom.Svg: true, atom.Iframe: true,
}

// inlineTags lists the elements that do not begin a line.
var inlineTags = map[atom.Atom]bool{
	atom.A: true, atom.Abbr: true, atom.B: true, atom.Bdi: true, atom.Bdo: true, atom.Cite: true, atom.Code: true, atom.Data: true, atom.Del: true,
	atom.Dfn: true, atom.Em: true, atom.Font: true, atom.I: true, atom.Img: true, atom.Ins: true, atom.Kbd: true, atom.Label: true, atom.Mark: true,
	atom.Q: true, atom.S: true, atom.Samp: true, atom.Small: true, atom.Span: true, atom.Strong: true, atom.Sub: true, atom.Sup: true, atom.Time: true,
	atom.Tt: true, atom.U: true, atom.Var: true, atom.Wbr: true,
}

// html appends the text of HTML. It reads tags without building a tree, so that no
// nesting of a page is too deep.
func (b *textBuilder) html(r io.Reader) error {
	z := html.NewTokenizer(r)
	hidden, depth, pre := atom.Atom(0), 0, 0 // the open hidden element and how many of it
	for {
		switch kind := z.Next(); kind {
		case html.ErrorToken:
			if errors.Is(z.Err(), io.EOF) {
				return nil
			}
			return z.Err()
		case html.TextToken:
			if hidden != 0 {
				continue
			}
			if text := string(z.Text()); pre > 0 {
				b.write(text)
			} else {
				b.words(text)
			}
		case html.StartTagToken, html.EndTagToken, html.SelfClosingTagToken:
			name, _ := z.TagName()
			tag := atom.Lookup(name)
			step := map[html.TokenType]int{html.StartTagToken: 1, html.EndTagToken: -1}[kind]
			switch {
			case hidden != 0:
				if tag == hidden {
					if depth += step; depth <= 0 {
						hidden = 0
					}
				}
				continue
			case hiddenTags[tag] && step > 0:
				hidden, depth = tag, 1
			case tag == atom.Pre:
				pre = max(pre+step, 0)
			}
			switch {
			case tag == atom.Td || tag == atom.Th:
				b.space()
			case !inlineTags[tag] && !hiddenTags[tag]:
				b.block()
			}
		}
	}
}
