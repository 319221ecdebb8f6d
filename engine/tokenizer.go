package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/daulet/tokenizers"

	"github.com/mlxrank/mlxrank/weights"
)

// A tokenizer turns texts into the ids of a BERT vocabulary. It is safe for
// any number of goroutines.
type tokenizer struct {
	maxLength int
	special   special
	cuts      cuts

	mu     sync.RWMutex // held for writing only to close
	native *tokenizers.Tokenizer
}

// newTokenizer makes a tokenizer of what a model's files say.
func newTokenizer(file weights.Tokenizer, maxLength int) (*tokenizer, error) {
	t := &tokenizer{maxLength: maxLength, cuts: makeCuts(file)}
	cls, sep, err := file.Frame()
	if err == nil {
		t.special = special{cls: int32(cls), sep: int32(sep)}
		t.native, err = tokenizers.FromBytes(file.JSON())
	}
	if err != nil {
		return nil, fmt.Errorf("engine: tokenizer.json: %w", err)
	}
	return t, nil
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

// A text's tokens: the first of them, as many as a pair can use, how many
// there are in all, and as many of the last where the first are not all.
type encoded struct {
	ids   []int32
	total int
	last  []int32
}

func (t *tokenizer) encode(text string) (encoded, error) {
	return t.encodeContext(context.Background(), text)
}

// encodeContext tokenises a text without special tokens around it, a part at a
// time, so that memory does not grow with the text, until ctx ends.
func (t *tokenizer) encodeContext(ctx context.Context, text string) (encoded, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.native == nil {
		return encoded{}, ErrClosed
	}
	var out encoded
	for text = clean(text); text != ""; {
		if err := ctx.Err(); err != nil {
			return encoded{}, err
		}
		part, rest, err := t.cuts.next(text)
		if err != nil {
			return encoded{}, err
		}
		// Failure shows only by the missing frame.
		ids, _ := t.native.Encode(part, true)
		if len(ids) < 2 {
			return encoded{}, errors.New("the tokenizer library refused it")
		}
		ids = ids[1 : len(ids)-1]
		out.add(ids, t.maxLength)
		text = rest
	}
	return out, nil
}

// add appends a part's tokens, of which at most n are kept at either end.
func (e *encoded) add(ids []uint32, n int) {
	e.total += len(ids)
	if e.last == nil && e.total > n {
		e.last = slices.Clone(e.ids)
	}
	for _, id := range ids[:min(len(ids), n-len(e.ids))] {
		e.ids = append(e.ids, int32(id))
	}
	if e.total <= n {
		return
	}
	ids = ids[max(0, len(ids)-n):]
	e.last = e.last[max(0, len(e.last)+len(ids)-n):]
	for _, id := range ids {
		e.last = append(e.last, int32(id))
	}
}

// clean makes a text one that the tokenizer library takes as it is. Invalid
// UTF-8 becomes U+FFFD. The library ends a text at NUL, so NUL becomes U+FFFD
// too: the normalizer drops both, as it drops NUL, but a special token spelled
// around one stays broken, which deleting it would mend.
func clean(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}
