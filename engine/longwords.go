package engine

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mlxrank/mlxrank/weights"
)

// longWords shortens very long words without changing any token, so that
// tokenising them takes little memory.
//
// WordPiece replaces a word of more than longest characters by one [UNK]. Letters,
// digits and combining marks never end a word, and the normalizer keeps at least one
// character of each letter or digit. So a stretch of these characters with more than
// longest letters is part of one word, which becomes [UNK]. Removing letters from its
// middle changes nothing while more than longest letters remain.
type longWords struct {
	ends int // letters kept at each end of a stretch; 0 leaves words as they are
}

// letters have been in Unicode for so long that every version of the tokenizer
// library treats each of them as part of a word.
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

// makeLongWords returns the shortener for a model whose words have up to longest
// characters. The tokenizer finds added tokens within words too. An added token with
// ASCII punctuation can only overlap the ends of a stretch, so the ends that are kept
// are long enough for it. If an added token has no punctuation, words are not
// shortened.
func makeLongWords(longest int, addedTokens []weights.AddedToken) longWords {
	ends := longest + 1
	for _, token := range addedTokens {
		if !strings.ContainsAny(token.Content, "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") {
			return longWords{}
		}
		ends = max(ends, longest+1+4*len(token.Content)) // the normalizer makes up to four characters from one
	}
	return longWords{ends: ends}
}

// shorten removes letters from the middle of long stretches.
func (w longWords) shorten(text string) string {
	if w.ends == 0 {
		return text
	}
	var out strings.Builder
	for text != "" {
		stretch, letters := cutStretch(text)
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

// cutStretch returns the letters and marks at the beginning of a text, and how many
// of them are letters.
func cutStretch(text string) (stretch string, count int) {
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

// afterLetters returns the index of the letter after the first n letters.
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
