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

// A tokenizer turns texts into the ids of a BERT vocabulary. It is safe for
// any number of goroutines.
type tokenizer struct {
	maxLength int
	frame     frame
	beyond    beyond
	cuts      cuts
	words     longWords

	mu     sync.RWMutex // held for writing only to close
	native *tokenizers.Tokenizer
}

// newTokenizer makes a tokenizer from a model's files.
func newTokenizer(file weights.Tokenizer, maxLength int) (*tokenizer, error) {
	t := &tokenizer{maxLength: maxLength, frame: newFrame(file.Pair), cuts: makeCuts(file), beyond: makeBeyond(file), words: makeLongWords(file.MaxWordChars(), file.AddedTokens)}
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
		ids, rest, err := t.encodePart(ctx, e.rest, false)
		if err != nil {
			return encoded{}, err
		}
		e = e.add(ids, rest, t.maxLength, TruncateRight)
	}
	return e, nil
}

// encodePart tokenises the first or the last part of a text, without special tokens.
// All parts together have the tokens of the whole text.
func (t *tokenizer) encodePart(ctx context.Context, text string, last bool) (ids []uint32, rest string, err error) {
	if err := ctx.Err(); err != nil {
		return nil, "", err
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.native == nil {
		return nil, "", ErrClosed
	}
	cut := t.cuts.first
	if last {
		cut = t.cuts.last
	}
	part, rest := cut(text)
	if len(part) > 2*partBytes {
		part = t.words.shorten(part)
	}
	if len(part) > mostBytes {
		return nil, "", fmt.Errorf("a stretch of %d bytes without a place to cut it: expected white space or ASCII punctuation at least every %d", len(part), mostBytes)
	}
	// Failure shows only by the missing frame.
	ids = t.native.EncodeWithOptions(clean(part), true).IDs
	if len(ids) < 2 {
		return nil, "", errors.New("the tokenizer library refused it")
	}
	return ids[1 : len(ids)-1], rest, nil
}

// clean replaces what the tokenizer library would misread. Invalid UTF-8 becomes
// U+FFFD. The library ends a text at NUL, so NUL becomes U+FFFD
// too: the normalizer drops both. Deleting NUL instead could complete the spelling
// of a special token around it.
func clean(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}
