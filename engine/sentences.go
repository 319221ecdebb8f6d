package engine

import (
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/clipperhouse/uax29/v2/sentences"
)

// splitSentences returns the sentences of a text, without the white space around
// them. It joins wrapped lines. A list item, a heading, a row of a table and a line
// of code each begin a new sentence. Within a paragraph it follows Unicode's rules
// (UAX 29), but an abbreviation, an address or a number does not end a sentence. A
// blank text has no sentences.
func splitSentences(text string) []Span {
	b := blocks{text: text}
	for start := 0; start < len(text); {
		end := start + strings.IndexByte(text[start:], '\n')
		if end < start {
			end = len(text)
		}
		b.line(start, end)
		start = end + 1
	}
	b.flush()
	return b.out
}

// sentencesWithin lists the sentences that lie completely within a part of a text.
// If there are none, it lists the pieces of sentences within the part.
func sentencesWithin(text string, part Span) []Span {
	// The text before the part is needed to recognise code and list items, and some
	// text after it to find the end of its last sentence.
	var whole, pieces []Span
	for _, s := range splitSentences(text[:min(len(text), part.End+maxSentence)]) {
		switch {
		case s.Start >= part.Start && s.End <= part.End:
			whole = append(whole, s)
		case s.Start < part.End && s.End > part.Start:
			pieces = appendTrimmed(pieces, text, max(s.Start, part.Start), min(s.End, part.End))
		}
	}
	if len(whole) > 0 {
		return whole
	}
	return pieces
}

// maxSentence is more bytes than any sentence has that fits into the model.
const maxSentence = 4 << 10

// appendTrimmed appends a span without the white space around it, if anything else
// is in it.
func appendTrimmed(to []Span, text string, start, end int) []Span {
	s := strings.TrimRightFunc(text[start:end], unicode.IsSpace)
	trimmed := strings.TrimLeftFunc(s, unicode.IsSpace)
	if trimmed == "" {
		return to
	}
	start += len(s) - len(trimmed)
	return append(to, Span{start, start + len(trimmed)})
}

// blocks splits a text into paragraphs and single lines. Its rules are common to
// READMEs, Markdown and plain text.
type blocks struct {
	text      string
	paragraph []Span // its lines
	fence     string // "```" or "~~~" within a block of code, otherwise ""
	list      bool   // the last paragraph was a list item
	out       []Span
}

var (
	fenceLine   = regexp.MustCompile("^\\s*(```|~~~)")
	headingLine = regexp.MustCompile(`^ {0,3}#{1,6}\s`)
	ruleLine    = regexp.MustCompile(`^\s*[-=*_~+|:][-=*_~+|: ]+$`)
	itemLine    = regexp.MustCompile(`^\s*([-*+•]|[0-9]{1,9}[.)])\s+`)
	codeIndent  = regexp.MustCompile(`^( {4}|\t)`)
)

// line adds the next line.
func (b *blocks) line(start, end int) {
	line := b.text[start:end]
	if fence := fenceLine.FindStringSubmatch(line); fence != nil && (b.fence == "" || b.fence == fence[1]) {
		b.flush()
		if b.fence == "" {
			b.fence = fence[1]
		} else {
			b.fence = ""
		}
		return
	}
	item := itemLine.FindString(line)
	switch {
	case b.fence != "":
		b.alone(start, end)
	case strings.TrimSpace(line) == "" || ruleLine.MatchString(line):
		b.flush()
	case headingLine.MatchString(line), strings.HasPrefix(strings.TrimSpace(line), "|"):
		b.flush()
		b.alone(start+len(headingLine.FindString(line)), end)
		b.list = false
	case item != "" && b.startsItem(item):
		b.flush()
		b.list = true
		b.paragraph = append(b.paragraph, Span{start + len(item), end})
	case codeIndent.MatchString(line) && len(b.paragraph) == 0 && !b.list:
		b.alone(start, end)
	default:
		if len(b.paragraph) == 0 && !unicode.IsSpace(rune(line[0])) {
			b.list = false
		}
		b.paragraph = append(b.paragraph, Span{start, end})
	}
}

// startsItem reports whether a line with this beginning starts a list item. Within a
// paragraph, a number at the beginning of a line may be there because of wrapping.
func (b *blocks) startsItem(beginning string) bool {
	marker := strings.TrimSpace(beginning)
	return len(b.paragraph) == 0 || b.list || marker == "1." || marker == "1)" || strings.ContainsAny(marker, "-*+•")
}

func (b *blocks) alone(start, end int) { b.out = appendTrimmed(b.out, b.text, start, end) }

// leastWidth is the width of the narrowest column that texts are wrapped to, in bytes.
const leastWidth = 50

// flush ends the paragraph.
func (b *blocks) flush() {
	width := leastWidth
	for _, l := range b.paragraph {
		width = max(width, l.End-l.Start)
	}
	for from := 0; from < len(b.paragraph); {
		to := from + 1
		for to < len(b.paragraph) && b.wrapped(b.paragraph[to-1], b.paragraph[to], width) {
			to++
		}
		b.prose(b.paragraph[from].Start, b.paragraph[to-1].End)
		from = to
	}
	b.paragraph = b.paragraph[:0]
}

// wrapped reports whether the next line continues this one. A line with enough room
// for the next word was ended on purpose, as in a list of names, unless the next line
// begins in lower case.
func (b *blocks) wrapped(line, next Span, width int) bool {
	words := strings.TrimLeftFunc(b.text[next.Start:next.End], unicode.IsSpace)
	word := words
	if i := strings.IndexFunc(words, unicode.IsSpace); i >= 0 {
		word = words[:i]
	}
	first, _ := utf8.DecodeRuneInString(word)
	used := len(strings.TrimSpace(b.text[line.Start:line.End])) + 1 + len(word)
	return unicode.IsLower(first) || used > width*3/4
}

// prose appends the sentences of text[start:end].
func (b *blocks) prose(start, end int) {
	// A line end would end a sentence.
	text := strings.NewReplacer("\n", " ", "\r", " ").Replace(b.text[start:end])
	from := 0
	for tokens := sentences.FromString(text); tokens.Next(); {
		if at := tokens.End(); at == len(text) || endsSentence(text[from:at], text[at:]) {
			b.out = appendTrimmed(b.out, b.text, start+from, start+at)
			from = at
		}
	}
}

// endsSentence reports whether a sentence by Unicode's rules really ends before
// rest, which is not empty.
func endsSentence(sentence, rest string) bool {
	trimmed := strings.TrimRightFunc(sentence, unicode.IsSpace)
	last := trimmed[len(trimmed)-min(1, len(trimmed)):]
	if trimmed == sentence && strings.ContainsAny(last, ".?!") {
		return false // within an address or a name
	}
	if last != "." {
		return true
	}
	before := strings.TrimSuffix(trimmed, ".")
	at := strings.LastIndexFunc(before, unicode.IsSpace) + 1
	word := strings.TrimLeft(before[at:], `([{"'“‘«*_`)
	if isInitial(word) || slices.Contains(abbreviations, strings.ToLower(word)) {
		return false
	}
	if number := rest[0] >= '0' && rest[0] <= '9'; number && slices.Contains(countedAbbreviations, strings.ToLower(word)) {
		return false
	}
	// The number of an item: "1. Install it."
	return strings.Trim(word, "0123456789") != "" || strings.IndexFunc(before[:at], isWritten) >= 0
}

func isWritten(r rune) bool { return !unicode.IsSpace(r) }

// isInitial reports whether a word is an initial, such as "J" in "J. Doe".
func isInitial(word string) bool {
	r, size := utf8.DecodeRuneInString(word)
	return size == len(word) && unicode.IsUpper(r) && r != 'I'
}

// abbreviations do not end a sentence. Unicode's CLDR has them, and they are
// rarely the last word of a sentence.
var abbreviations = strings.Fields(`
	e.g i.e eg cf viz vs v.s resp approx ca z.b d.h u.a bzw ggf vgl p.ex
	dr mr mrs ms prof st sr jr rev gen col capt lt sgt hon messrs mme mlle hr fr
	al incl excl ed eds est dept univ`)

// countedAbbreviations do not end a sentence before a number.
var countedAbbreviations = strings.Fields(`
	no nos nr fig figs sec secs ch chap eq eqs vol p pp art par tab ver
	jan feb mar apr jun jul aug sep sept oct nov dec`)
