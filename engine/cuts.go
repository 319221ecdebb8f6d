package engine

import (
	"unicode/utf8"

	"github.com/mlxrank/mlxrank/weights"
)

// Long texts are tokenised in parts of about partBytes, until enough tokens are
// known. Tokenising takes about 180 bytes of memory for each byte of a part, so a part
// has at most mostBytes.
const (
	partBytes = 4 << 10
	mostBytes = 1 << 20
)

// cuts finds the places where a text can be cut without changing its tokens: before
// a character that always starts a new token and never joins the one before it.
type cuts struct {
	ascii [utf8.RuneSelf]bool
	han   bool // the normalizer separates ideographs
}

// makeCuts returns the cuts of a tokenizer. For the BERT pre-tokenizer, ASCII white
// space and punctuation end a word, and a combining mark after one stays with it.
// There are two exceptions. The tokenizer looks for added tokens such as [SEP] before
// it looks for words, so no cut is before a character of an added token. And if an
// added token must be a single word, no cut is before a character of a word.
func makeCuts(file weights.Tokenizer) cuts {
	c := cuts{han: file.Normalizer.HandleChineseChars}
	for _, r := range "\t\n\r !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~" {
		c.ascii[r] = true
	}
	for _, token := range file.AddedTokens {
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

func (c *cuts) before(r rune) bool {
	if r < utf8.RuneSelf {
		return c.ascii[r]
	}
	// The ideographs that every version of the BERT normalizer separates.
	return c.han && (r >= 0x4E00 && r <= 0x9FA5 || r >= 0x3400 && r <= 0x4DB5)
}

// after returns the first place after from where a text can be cut, or its end.
func (c *cuts) after(text string, from int) int {
	for i, r := range text[from:] {
		if i > 0 && c.before(r) {
			return from + i
		}
	}
	return len(text)
}

// first cuts off the first part of a text, and last the last part.
func (c *cuts) first(text string) (part, rest string) {
	if len(text) <= partBytes {
		return text, ""
	}
	from := partBytes
	for !utf8.RuneStart(text[from]) && from < len(text)-1 {
		from++
	}
	for i, r := range text[from:] {
		if c.before(r) {
			return text[:from+i], text[from+i:]
		}
	}
	return text, ""
}

func (c *cuts) last(text string) (part, rest string) {
	for at := len(text) - partBytes; at > 0; at-- {
		if !utf8.RuneStart(text[at]) {
			continue
		}
		if r, _ := utf8.DecodeRuneInString(text[at:]); c.before(r) {
			return text[at:], text[:at]
		}
	}
	return text, ""
}
