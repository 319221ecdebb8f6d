// Package spelling suggests known words for misspelt ones.
package spelling

import (
	"fmt"
	"strings"

	"github.com/xrash/smetrics"
)

// maxWord is the maximum length of a compared word, in bytes.
const maxWord = 128

// minPrefix is the minimum length of an abbreviation, in characters.
const minPrefix = 4

// Nearest returns the known word with the fewest edits from word. It allows one
// edit plus one for every four characters, or any number if word abbreviates the
// known word. Nearest ignores case and treats _ as -.
func Nearest(word string, known []string) (nearest string, ok bool) {
	plain := fold(word)
	if plain == "" || len(word) > maxWord {
		return "", false
	}
	best := 2 + len(plain)/4
	for _, k := range known {
		edits := smetrics.WagnerFischer(plain, fold(k), 1, 1, 1)
		if len(plain) >= minPrefix && strings.HasPrefix(fold(k), plain) {
			edits = min(edits, best-1)
		}
		if edits < best && edits < len(plain) {
			nearest, best, ok = k, edits, true
		}
	}
	return nearest, ok
}

// Hint returns `; did you mean WORD?` for the nearest word, "" if none is near.
// format formats the word, as "--%s" does for a flag.
func Hint(word string, known []string, format string) string {
	nearest, ok := Nearest(word, known)
	if !ok {
		return ""
	}
	return fmt.Sprintf("; did you mean "+format+"?", nearest)
}

func fold(s string) string { return strings.ReplaceAll(strings.ToLower(s), "_", "-") }
