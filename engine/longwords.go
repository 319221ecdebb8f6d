package engine

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mlxrank/mlxrank/weights"
)

// longWords shortens words that are one [UNK] for their length alone, so that a
// text with a word of any length is tokenised in little memory.
//
// WordPiece makes one [UNK] of a word of more than longest characters. Letters
// and digits never end a word, and the normalizer leaves at least one character
// of each; combining marks never end a word either. So a stretch of them with
// more than longest letters lies in one word, which is [UNK], and stays so while
// that many letters are left: letters from its middle can go without changing
// any token.
type longWords struct {
	ends int // letters kept at either end of a stretch; 0 shortens nothing
}

// letters are in Unicode for so long that the tokenizer library, whichever
// version of Unicode it knows, takes each for a character within a word.
var letters = &unicode.RangeTable{
	R16: []unicode.Range16{
		{'0', '9', 1}, {'A', 'Z', 1}, {'a', 'z', 1},
		{0xC0, 0xD6, 1}, {0xD8, 0xF6, 1}, {0xF8, 0x24F, 1}, // Latin
		{0x391, 0x3A1, 1}, {0x3A3, 0x3CE, 1}, // Greek
		{0x400, 0x481, 1},                    // Cyrillic
		{0x5D0, 0x5EA, 1},                    // Hebrew
		{0x621, 0x63A, 1}, {0x641, 0x64A, 1}, // Arabic
		{0xE01, 0xE30, 1},                        // Thai
		{0x3041, 0x3094, 1}, {0x30A1, 0x30FA, 1}, // Hiragana and Katakana
		{0xAC00, 0xD7A3, 1}, // Hangul
	},
	LatinOffset: 5,
}

var marks = &unicode.RangeTable{
	R16: []unicode.Range16{
		{0x300, 0x345, 1}, {0x64B, 0x652, 1}, {0xE31, 0xE31, 1}, {0xE34, 0xE3A, 1}, {0xE47, 0xE4E, 1},
	},
}

// makeLongWords is for a model whose words have up to longest characters. A
// token of addedTokens is found within words too; one with ASCII punctuation is
// found in no stretch of letters, which leaves room for the longest of them at
// its ends. With another one nothing is shortened.
func makeLongWords(longest int, addedTokens []weights.AddedToken) longWords {
	ends := longest + 1
	for _, token := range addedTokens {
		if !strings.ContainsAny(token.Content, "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") {
			return longWords{}
		}
		ends = max(ends, longest+1+4*len(token.Content)) // the normalizer makes up to four characters of one
	}
	return longWords{ends: ends}
}

// shorten takes letters out of the middle of long stretches.
func (w longWords) shorten(text string) string {
	if w.ends == 0 {
		return text
	}
	var out strings.Builder
	for text != "" {
		stretch, letters := stretchOf(text)
		if letters > 2*w.ends {
			head := afterLetters(stretch, w.ends)
			out.WriteString(stretch[:head])
			out.WriteString(stretch[head+afterLetters(stretch[head:], letters-2*w.ends):])
		} else {
			out.WriteString(stretch)
		}
		_, size := utf8.DecodeRuneInString(text[len(stretch):])
		out.WriteString(text[len(stretch) : len(stretch)+size])
		text = text[len(stretch)+size:]
	}
	return out.String()
}

// stretchOf is the letters and marks that a text begins with, and how many of
// them are letters.
func stretchOf(text string) (stretch string, count int) {
	for i, r := range text {
		switch {
		case unicode.Is(letters, r):
			count++
		case !unicode.Is(marks, r):
			return text[:i], count
		}
	}
	return text, count
}

// afterLetters is the index of the letter behind the first n.
func afterLetters(stretch string, n int) int {
	for i, r := range stretch {
		if unicode.Is(letters, r) {
			if n == 0 {
				return i
			}
			n--
		}
	}
	return len(stretch)
}
