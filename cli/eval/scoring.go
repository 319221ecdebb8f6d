package eval

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/mlxrank/mlxrank/cli/internal/input"
	"github.com/mlxrank/mlxrank/cli/internal/output"
	"github.com/mlxrank/mlxrank/cli/internal/progress"
	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/internal/measures"
)

// A scored holds the logits of one configuration, and their cost.
type scored struct {
	facts  *output.Summary
	total  int         // pairs to score
	logits [][]float32 // by query, of the candidates up to the deepest depth
	scores [][]float32 // after the activation
	steps  []step      // by depth
}

// A step counts the pairs from one depth to the next, and the time to score them.
type step struct {
	depth int
	pairs int
	time  time.Duration
}

// A place is a pair to score: indexes into the queries and their candidates.
type place struct{ query, rank int }

// score scores the candidates up to each of the depths, in order.
func (e *evaluation) score(ctx context.Context, model *engine.Engine, depths []int) (*scored, error) {
	n := len(e.queries)
	s := &scored{facts: output.NewSummary(model.Info()), logits: make([][]float32, n), scores: make([][]float32, n), total: e.pairsBetween(0, depths[len(depths)-1])}
	bar := e.notices.Progress("scoring "+shortName(s.facts.Model), "pairs", s.total)
	defer bar.End()
	if err := e.warmUp(ctx, model); err != nil {
		return nil, err
	}
	from := 0
	for _, depth := range depths {
		step, err := e.scoreStep(ctx, model, s, bar, from, depth)
		if err != nil {
			return nil, err
		}
		s.steps = append(s.steps, step)
		from = depth
	}
	return s, nil
}

// pairsBetween counts the candidates with ranks from from to before to.
func (e *evaluation) pairsBetween(from, to int) int {
	n := 0
	for _, list := range e.candidates {
		n += max(min(to, len(list))-from, 0)
	}
	return n
}

// A chunk holds pairs to score together.
type chunk struct {
	places []place
	pairs  []engine.Pair
	bytes  int
}

// chunkBytes caps the texts that are in memory at once.
const chunkBytes = 4 << 20

func (c *chunk) full() bool { return len(c.pairs) >= input.ChunkRecords || c.bytes >= chunkBytes }

// read adds a pair with its texts.
func (e *evaluation) read(c *chunk, p place) error {
	query, document, err := e.text(p)
	if err != nil {
		return err
	}
	c.places, c.pairs = append(c.places, p), append(c.pairs, engine.Pair{Query: query, Document: document})
	c.bytes += len(query) + len(document)
	return nil
}

// warmUp scores a few pairs, so that the first step does not include what an engine
// does once.
func (e *evaluation) warmUp(ctx context.Context, model *engine.Engine) error {
	const most = 32
	c := &chunk{}
	for q, list := range e.candidates {
		if len(list) > 0 && len(c.pairs) < most && !c.full() {
			if err := e.read(c, place{q, 0}); err != nil {
				return err
			}
		}
	}
	_, _, err := e.scoreChunk(ctx, model, c, func(int) {})
	return err
}

// scoreStep scores the candidates with ranks from from to before to.
func (e *evaluation) scoreStep(ctx context.Context, model *engine.Engine, s *scored, bar *progress.Bar, from, to int) (step, error) {
	done, c := step{depth: to}, &chunk{}
	flush := func() error {
		before := s.pairs() + done.pairs
		result, took, err := e.scoreChunk(ctx, model, c, func(n int) { bar.Set(before+n, s.total) })
		if err != nil {
			return err
		}
		for i, p := range c.places {
			s.logits[p.query] = append(s.logits[p.query], result.Logits[i])
			s.scores[p.query] = append(s.scores[p.query], result.Scores[i])
		}
		s.facts.Add(len(c.pairs), result)
		done.pairs += len(c.pairs)
		done.time += took
		c = &chunk{}
		return nil
	}
	for q, list := range e.candidates {
		for rank := from; rank < min(to, len(list)); rank++ {
			if err := e.read(c, place{q, rank}); err != nil {
				return done, err
			}
			if c.full() {
				if err := flush(); err != nil {
					return done, err
				}
			}
		}
	}
	if len(c.pairs) == 0 {
		return done, nil
	}
	err := flush()
	return done, err
}

// scoreChunk scores pairs and measures the time.
func (e *evaluation) scoreChunk(ctx context.Context, model *engine.Engine, c *chunk, progress func(done int)) (*engine.Result, time.Duration, error) {
	score := model.ScoreWith
	if e.long == engine.Passages {
		score = model.ScorePassages
	}
	start := time.Now()
	// With --long passages, Progress counts passages.
	result, err := score(ctx, c.pairs, engine.ScoreOptions{Progress: func(done, of int) { progress(len(c.pairs) * done / max(of, 1)) }})
	if err != nil {
		return nil, 0, e.locate(err, c.places)
	}
	return result, time.Since(start), nil
}

// text returns the texts of a pair.
func (e *evaluation) text(p place) (query, document string, err error) {
	id := e.queries[p.query]
	if query, err = e.texts.Query(id); err != nil {
		return "", "", err
	}
	document, err = e.texts.Document(e.candidates[p.query][p.rank].ID)
	return query, document, err
}

// locate adds the ids to an engine's error about a text.
func (e *evaluation) locate(err error, places []place) error {
	var text *engine.TextError
	if !errors.As(err, &text) {
		return err
	}
	p := places[text.Index]
	if text.Query {
		return fmt.Errorf("query %q: %w", e.queries[p.query], input.TextReason(err))
	}
	return fmt.Errorf("query %q, document %q: %w", e.queries[p.query], e.candidates[p.query][p.rank].ID, input.TextReason(err))
}

// pairs returns how many pairs are scored.
func (s *scored) pairs() int {
	n := 0
	for _, step := range s.steps {
		n += step.pairs
	}
	return n
}

// reranked returns the run in which the first depth candidates of each query are
// ranked by their logits. The others follow with the order and the ties of the first
// stage. Their scores are whole numbers, which every program reads exactly.
func (e *evaluation) reranked(s *scored, depth int) measures.Run {
	run := make(measures.Run, len(e.queries))
	for q, list := range e.candidates {
		if len(list) == 0 {
			continue
		}
		ranked := make([]measures.Retrieved, len(list))
		score := math.Inf(1)
		for rank, d := range list {
			if rank < depth {
				logit := float64(s.logits[q][rank])
				ranked[rank] = measures.Retrieved{ID: d.ID, Score: logit}
				score = min(score, logit)
				continue
			}
			if rank == depth {
				score = math.Floor(score) - 1
			} else if d.Score != list[rank-1].Score {
				score--
			}
			ranked[rank] = measures.Retrieved{ID: d.ID, Score: score}
		}
		run[e.queries[q]] = ranked
	}
	return run
}
