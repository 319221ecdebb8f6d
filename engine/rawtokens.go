package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mlxrank/mlxrank/internal/lab"
	"github.com/mlxrank/mlxrank/weights"
)

// Template returns the special tokens of a pair and their type ids, in order.
func (e *Engine) Template(_ lab.Key) []lab.Piece {
	pieces := make([]lab.Piece, len(e.tokenizer.file.Pair))
	for i, p := range e.tokenizer.file.Pair {
		pieces[i] = lab.Piece{Query: p.Sequence == weights.SequenceA, Document: p.Sequence == weights.SequenceB, ID: int32(p.ID), TypeID: int32(p.TypeID)}
	}
	return pieces
}

// TextTokens returns the token ids of each text, without special tokens around it and
// without truncation. The spelling leaves out steps of the model's tokenizer.
func (e *Engine) TextTokens(_ lab.Key, texts []string, s lab.Spelling) (ids [][]int32, err error) {
	t := e.tokenizer
	if s != (lab.Spelling{}) {
		if t, err = newTokenizer(respell(t.file, s), t.maxLength); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, t.close()) }()
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.native == nil {
		return nil, ErrClosed
	}
	ids = make([][]int32, len(texts))
	for i, text := range texts {
		if len(text) > mostBytes {
			return nil, fmt.Errorf("%w: text %d has %d bytes, expected at most %d", ErrText, i, len(text), mostBytes)
		}
		found, err := t.encodeNow(text)
		if err != nil {
			return nil, fmt.Errorf("%w: text %d: %w", ErrText, i, err)
		}
		ids[i] = appendIDs(nil, found)
	}
	return ids, nil
}

// respell returns a tokenizer without the steps that the spelling leaves out.
func respell(file weights.Tokenizer, s lab.Spelling) weights.Tokenizer {
	n := &file.Normalizer
	strips := n.Lowercase
	if n.StripAccents != nil {
		strips = *n.StripAccents
	}
	strips = strips && !s.KeepAccents
	n.StripAccents = &strips
	if s.KeepCase {
		n.Lowercase = false
		var steps []weights.Step
		for _, step := range file.Steps {
			if step.Kind != weights.Lowercase {
				steps = append(steps, step)
			}
		}
		file.Steps = steps
	}
	if s.PlainSpecials {
		file.AddedTokens = nil
	}
	return file
}

// ScoreRaw scores any token ids that the model has, also those that its template
// would not make, such as another program's.
func (e *Engine) ScoreRaw(ctx context.Context, _ lab.Key, pairs []Tokens) (*Result, error) {
	start := time.Now()
	for i, t := range pairs {
		if len(t.IDs) == 0 || len(t.IDs) > e.pipeline.texts.maxLength || len(t.TypeIDs) != len(t.IDs) {
			return nil, fmt.Errorf("engine: pair %d has %d ids and %d type ids, expected 1 to %d of each", i, len(t.IDs), len(t.TypeIDs), e.pipeline.texts.maxLength)
		}
	}
	r := &request{pairs: make([]Pair, len(pairs)), inputs: append([]Tokens{}, pairs...)}
	return e.score(ctx, r, start)
}

// Activate returns the score that the engine makes from a logit.
func (e *Engine) Activate(_ lab.Key, logit float64) float64 {
	if e.scorer.function == weights.ScoringSoftmax { // whose logits are log-odds
		return sigmoid(logit)
	}
	return functions[e.scorer.function](logit)
}
