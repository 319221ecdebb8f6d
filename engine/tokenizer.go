package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"

	"github.com/daulet/tokenizers"

	"github.com/mlxrank/mlxrank/weights"
)

// The linker finds the tokenizer library where make build leaves it. Programs
// outside this repository set CGO_LDFLAGS, which mlxrank env prints.

// #cgo LDFLAGS: -L${SRCDIR}/../build/tokenizers
import "C"

// A tokenizer turns texts into the ids of a vocabulary. It is safe for any number of
// goroutines.
type tokenizer struct {
	maxLength int
	frame     frame
	beyond    beyond
	cuts      cuts
	words     longWords
	file      weights.Tokenizer

	mu     sync.RWMutex // held for writing only to close
	native *tokenizers.Tokenizer
}

// newTokenizer makes a tokenizer from a model's files.
func newTokenizer(file weights.Tokenizer, maxLength int) (*tokenizer, error) {
	t := &tokenizer{
		maxLength: maxLength, file: file, frame: newFrame(file.Pair), cuts: makeCuts(file), beyond: makeBeyond(file),
	}
	if file.Kind == weights.WordPiece {
		t.words = makeLongWords(file.MaxWordChars(), file.AddedTokens)
	}
	var err error
	if t.native, err = tokenizers.FromBytes(file.JSON()); err != nil {
		return nil, fmt.Errorf("engine: tokenizer.json: %w", err)
	}
	return t, nil
}

// beyond holds tokens, by id, that have no row in the model's word embeddings. A
// model has such tokens if they were added to its tokenizer only.
type beyond map[int32]string

func makeBeyond(file weights.Tokenizer) beyond {
	b := beyond{}
	for _, token := range file.AddedTokens {
		if token.Beyond {
			b[int32(token.ID)] = token.Content
		}
	}
	return b
}

// check rejects ids that the model has no embedding for.
func (b beyond) check(ids []int32) error {
	if len(b) == 0 {
		return nil
	}
	for _, id := range ids {
		if token, ok := b[id]; ok {
			return fmt.Errorf("it contains the token %.100q with the id %d, for which the model has no embedding: the token was added to the tokenizer, and the model was not resized", token, id)
		}
	}
	return nil
}

func (t *tokenizer) close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.native == nil {
		return nil
	}
	native := t.native
	t.native = nil
	return native.Close()
}

// strings returns the token string of each id. Each id is decoded alone, since the
// library joins word pieces of a sequence.
func (t *tokenizer) strings(ids []int32) ([]string, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.native == nil {
		return nil, ErrClosed
	}
	tokens := make([]string, len(ids))
	for i, id := range ids {
		if t.file.SplitsWords() {
			tokens[i] = t.file.Token(int(id))
			continue
		}
		tokens[i] = t.native.Decode([]uint32{uint32(id)}, false)
	}
	return tokens, nil
}

// encode tokenises a whole text, without special tokens around it.
func (t *tokenizer) encode(text string) (encoded, error) {
	return t.encodeUntil(context.Background(), text, math.MaxInt)
}

// encodeUntil tokenises a text from its beginning, and stops when it has more than n
// tokens.
func (t *tokenizer) encodeUntil(ctx context.Context, text string, n int) (encoded, error) {
	e := untokenised(text)
	for !e.whole() && e.total <= n {
		ids, at, err := t.encodePart(ctx, e.rest, e.word.bytes, false)
		if err != nil {
			return encoded{}, err
		}
		e = e.add(ids, at, t.maxLength, TruncateRight)
	}
	return e, nil
}

// encodePart tokenises the first or the last part of a text, without special tokens.
// All parts together have the tokens of the whole text. done counts the bytes at the
// start of the text that an earlier part has, which ended inside of a word.
func (t *tokenizer) encodePart(ctx context.Context, text string, done int, last bool) (ids []uint32, at cut, err error) {
	if err := ctx.Err(); err != nil {
		return nil, cut{}, err
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.native == nil {
		return nil, cut{}, ErrClosed
	}
	var part string
	if last {
		at.at = t.cuts.last(text)
		part = text[at.at:]
	} else {
		at = t.cuts.first(text, done)
		part = text[:at.at]
	}
	if len(part) > 2*partBytes {
		part = t.words.shorten(part)
	}
	if len(part) > mostBytes {
		return nil, cut{}, fmt.Errorf("a stretch of %d bytes without a place to cut it: expected white space, or for some tokenizers punctuation, at least every %d", len(part), mostBytes)
	}
	ids, err = t.encodeNow(part)
	return ids, at, err
}

// encodeNow tokenises a text at once.
func (t *tokenizer) encodeNow(text string) ([]uint32, error) {
	var options []tokenizers.EncodeOption
	if t.file.SplitsWords() {
		options = append(options, tokenizers.WithReturnTokens())
	}
	encoding := t.native.EncodeWithOptions(t.clean(text), true, options...)
	ids := encoding.IDs
	// Failure shows only by the missing frame.
	if len(ids) < 2 {
		return nil, errors.New("the tokenizer library refused it")
	}
	if ids = ids[1 : len(ids)-1]; t.file.SplitsWords() {
		return t.splitWords(ids, encoding.Tokens[1:]), nil
	}
	return ids, nil
}

// splitWords returns the ids of words, which are the tokens with the id 0, and of the
// added tokens between them.
func (t *tokenizer) splitWords(ids []uint32, words []string) []uint32 {
	var out []uint32
	for i, id := range ids {
		if id > 0 {
			out = append(out, uint32(t.file.AddedTokens[id-1].ID))
			continue
		}
		out = t.file.Split(unescapes.Replace(words[i]), out)
	}
	return out
}

// escapes replaces NUL, as scripts/setup/tokenizers/src/guard.rs reads it.
var escapes = strings.NewReplacer("\x00", "\U0010FFFF0", "\U0010FFFF", "\U0010FFFF1")

// unescapes undoes escapes in the words that the library returns.
var unescapes = strings.NewReplacer("\U0010FFFF0", "\x00", "\U0010FFFF1", "\U0010FFFF")

// clean replaces what the tokenizer library would misread. Invalid UTF-8 becomes
// U+FFFD. The library ends a text at NUL. For WordPiece NUL becomes U+FFFD too: the
// normalizer drops both. Deleting NUL instead could complete the spelling of a special
// token around it. The other kinds make a token of NUL, so it is escaped.
func (t *tokenizer) clean(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if t.cuts.file == nil {
		return strings.ReplaceAll(text, "\x00", "\uFFFD")
	}
	return escapes.Replace(text)
}
