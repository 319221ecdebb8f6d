package engine

import (
	"unicode"
	"unicode/utf8"

	"github.com/mlxrank/mlxrank/weights"
)

// Long texts are tokenised in parts of about partBytes, until enough tokens are
// known. Tokenising takes a few hundred bytes of memory for each byte of a part, so a
// part has at most mostBytes.
const (
	partBytes = 4 << 10
	mostBytes = 1 << 20
)

// cuts finds the places where a text can be cut without changing its tokens.
//
// For WordPiece a cut is before a character that always starts a new token and never
// joins the one before it: ASCII white space and punctuation, and ideographs.
//
// For Unigram and BPE a cut is before white space that follows two characters which
// are neither white space nor part of a longer character. The normalizer and the
// pre-tokenizer then end a word there, and what follows begins as it does within the
// text: with a space.
type cuts struct {
	ascii [utf8.RuneSelf]bool // WordPiece: a cut may be before it; else: white space that a cut may be before
	han   bool                // WordPiece: the normalizer separates ideographs

	file  *weights.Tokenizer // nil for WordPiece
	marks bool               // BPE: a cut may be between a letter and punctuation
	blank bool               // Unigram: a cut may be between spaces
	inner bool               // Unigram: words have places that every result cuts
	added map[rune]bool      // characters of added tokens
	pairs map[[2]rune]bool   // neighbours in added tokens
	ends  map[rune]bool      // last characters of added tokens that must be words
	glued map[rune]bool      // characters that added tokens have before white space, or take it after
	exact bool               // a cut must be after a character that the normalizer leaves as it is
}

// makeCuts returns the cuts of a tokenizer. The tokenizer looks for added tokens such
// as [SEP] before it looks for words, so no cut may be inside of one.
func makeCuts(file weights.Tokenizer) cuts {
	if file.Kind != weights.WordPiece {
		return makeWordCuts(file)
	}
	c := cuts{han: file.Normalizer.HandleChineseChars}
	for _, r := range "\t\n\r !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~" {
		c.ascii[r] = true
	}
	for _, token := range file.AddedTokens {
		// If an added token must be a single word, no cut is before a character of a word.
		if token.SingleWord {
			c.ascii['_'], c.han = false, false
		}
		for _, r := range token.Content {
			if r < utf8.RuneSelf {
				c.ascii[r] = false
			} else {
				c.han = false
			}
		}
	}
	return c
}

// makeWordCuts returns the cuts of a Unigram or BPE tokenizer.
func makeWordCuts(file weights.Tokenizer) cuts {
	c := cuts{file: &file, added: map[rune]bool{}, pairs: map[[2]rune]bool{}, ends: map[rune]bool{}, glued: map[rune]bool{}}
	c.ascii[' '] = true
	if file.Words.AtSpaces || file.Kind == weights.BPE && !file.Words.PrefixSpace {
		c.ascii['\n'], c.ascii['\t'] = true, true
	}
	c.marks, c.inner = file.Kind == weights.BPE && !file.Words.PrefixSpace, file.Kind == weights.Unigram
	c.blank = file.Words.AtSpaces
	for _, step := range file.Steps {
		switch {
		case step.Kind == weights.Precompiled:
			c.marks = false
		case step.Kind == weights.ReplaceSpaces:
			c.blank = false
		case step.Kind == weights.NFKC || step.Kind == weights.Lowercase:
			c.inner = false // the pieces have other characters
		case step.Kind == weights.Strip && step.Left && file.Words.Prepend == weights.PrependNever:
			c.ascii = [utf8.RuneSelf]bool{}
		}
	}
	for _, token := range file.AddedTokens {
		c.avoid(token)
	}
	return c
}

// avoid excludes the places that an added token may cover or change.
func (c *cuts) avoid(token weights.AddedToken) {
	spaced := func(r rune) bool { return unicode.IsSpace(r) || r == '▁' || !c.file.Keeps(r) }
	before := rune(-1)
	for _, r := range token.Content {
		c.added[r], c.pairs[[2]rune{before, r}] = true, true
		if spaced(r) {
			c.blank = false
			if before < 0 && token.SingleWord {
				c.ascii = [utf8.RuneSelf]bool{}
			}
			if !spaced(before) {
				c.glue(before, token.Normalized)
			}
		}
		if token.Normalized && (!plain(r) || !c.file.Leaves(r)) {
			c.inner = false // the normalizer may make other characters of it
		}
		before = r
	}
	if token.SingleWord {
		c.ends[before] = true
	}
	if token.RStrip {
		c.glue(before, token.Normalized)
	}
}

// glue excludes cuts after a character of an added token, and after what the normalizer
// may make it of.
func (c *cuts) glue(r rune, normalized bool) {
	if r < 0 {
		return
	}
	c.glued[unicode.ToLower(r)], c.glued[unicode.ToUpper(r)], c.glued[r] = true, true, true
	c.exact = c.exact || normalized
	if normalized && r >= utf8.RuneSelf && !c.solid(r) {
		c.ascii = [utf8.RuneSelf]bool{} // it may end in an ASCII character
	}
}

// solid reports whether no normalizer makes an ASCII character the end of the letter r.
func (c *cuts) solid(r rune) bool {
	return plain(r) && !unicode.Is(digraphs, r) && !c.file.Replaces(r)
}

// digraphs are letters that compatibility normalization makes ASCII letters of.
var digraphs = &unicode.RangeTable{
	R16: []unicode.Range16{{0x132, 0x133, 1}, {0x13F, 0x140, 1}, {0x149, 0x149, 1}, {0x17F, 0x17F, 1}, {0x1C4, 0x1CC, 1}, {0x1F1, 0x1F3, 1}},
}

// plain reports whether r is a letter, digit, punctuation or symbol that no version of
// Unicode joins to a neighbour which is plain too, or to white space.
func plain(r rune) bool {
	return r > ' ' && r < 0x7F || unicode.Is(letters, r) || isHan(r)
}

// dividers are neither letters nor digits nor joined to a letter before them: marks and
// punctuation of Chinese and Thai, which have no spaces.
var dividers = &unicode.RangeTable{
	R16: []unicode.Range16{{0xE31, 0xE31, 1}, {0xE34, 0xE3A, 1}, {0xE47, 0xE4E, 1}, {0x3001, 0x3002, 1}, {0xFF0C, 0xFF0C, 1}},
}

// isHan reports whether r is an ideograph of the first versions of Unicode.
func isHan(r rune) bool { return r >= 0x4E00 && r <= 0x9FA5 || r >= 0x3400 && r <= 0x4DB5 }

// at reports whether a text can be cut before its character at byte i.
func (c *cuts) at(text string, i int) bool {
	r, _ := utf8.DecodeRuneInString(text[i:])
	if c.file == nil {
		// The ideographs that every version of the BERT normalizer separates.
		return r < utf8.RuneSelf && c.ascii[r] || c.han && isHan(r)
	}
	space := r < utf8.RuneSelf && c.ascii[r]
	mark := c.marks && (r > ' ' && r < utf8.RuneSelf && !unicode.IsLetter(r) && !unicode.IsDigit(r) || unicode.Is(dividers, r))
	if !space && !mark {
		return false
	}
	before, ok := lastPlain(text[:i])
	if before == ' ' && r == ' ' {
		return c.blank
	}
	if !ok || !c.file.Keeps(before) {
		return false
	}
	if mark {
		return (unicode.Is(letters, before) || isHan(before)) && !c.added[r]
	}
	return !c.glued[before] && (!c.exact || before < utf8.RuneSelf) && (c.file.Kind == weights.BPE || c.file.Words.AtSpaces || c.file.Words.AtMetaspace || c.file.Splits(before, '▁'))
}

// lastPlain returns the last character of a text, and whether it is plain and not
// joined to the character before it.
func lastPlain(text string) (rune, bool) {
	last, size := utf8.DecodeLastRuneInString(text)
	text = text[:len(text)-size]
	other, _ := utf8.DecodeLastRuneInString(text)
	return last, plain(last) && (text == "" || plain(other) || other == ' ' || other == '\n')
}

// within reports whether every result of a Unigram tokenizer has a token that ends
// before the character at byte i of a text, which is inside of a word.
func (c *cuts) within(text string, i int) bool {
	if !c.inner {
		return false
	}
	r, size := utf8.DecodeRuneInString(text[i:])
	next, _ := utf8.DecodeRuneInString(text[i+size:])
	before, ok := lastPlain(text[:i])
	return ok && plain(r) && plain(next) && !c.pairs[[2]rune{before, r}] && !c.ends[before] && c.file.Leaves(before) && c.file.Leaves(r) && c.file.Splits(before, r)
}

// after returns the first place after from where a text can be cut, or its end.
func (c *cuts) after(text string, from int) int {
	for i := range text[from:] {
		if i > 0 && c.at(text[from:], i) {
			return from + i
		}
	}
	return len(text)
}

// A cut is where a part of a text ends. If it is inside of a word, the rest of the text
// cannot be tokenised without the part.
type cut struct {
	at     int
	inside bool
}

// first returns the end of the first part of a text, of which done bytes are tokenised.
func (c *cuts) first(text string, done int) cut {
	from := max(partBytes, 2*done)
	if len(text) <= from {
		return cut{at: len(text)}
	}
	for !utf8.RuneStart(text[from]) && from < len(text)-1 {
		from++
	}
	inside := 0
	for i := range text[from:] {
		if c.at(text, from+i) {
			return cut{at: from + i}
		}
		if inside == 0 && c.within(text, from+i) {
			inside = from + i
		}
		if inside > 0 && i > partBytes {
			return cut{inside, true}
		}
	}
	return cut{at: len(text)}
}

// last returns the start of the last part of a text.
func (c *cuts) last(text string) int {
	for at := len(text) - partBytes; at > 0; at-- {
		if utf8.RuneStart(text[at]) && c.at(text, at) {
			return at
		}
	}
	return 0
}
