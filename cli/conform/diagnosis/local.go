package diagnosis

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"math"

	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/internal/lab"
)

// passPairs is how many pairs go to the engine at once, so that progress shows.
const passPairs = 32

// A local computes what a server with a reading would, in this process. It keeps all
// logits: most readings change few pairs.
type local struct {
	engine   *engine.Engine
	info     engine.Info
	template []lab.Piece
	tokens   map[spelled][]int32
	logits   map[string]float64 // by ids and type ids
	progress func(pairs int)
	pairs    [][]Pair // built-in groups, once they are made

	// openLast opens the model with the last layer of its head only; nil if the head
	// has no other.
	openLast func() (*engine.Engine, error)
	last     *engine.Engine // once it is open
	lastOf   map[string]float64

	// openLong opens the model with its own maximum length, where that may be longer
	// than the engine's; nil if it is not.
	openLong func() (*engine.Engine, error)
	long     *engine.Engine // once it is open
}

type spelled struct {
	text     string
	spelling lab.Spelling
}

func newLocal(e *engine.Engine, progress func(pairs int)) *local {
	return &local{
		engine: e, info: e.Info(), template: e.Template(lab.Key{}),
		tokens: map[spelled][]int32{}, logits: map[string]float64{}, progress: progress,
	}
}

// groups returns the built-in pairs for the model.
func (l *local) groups() ([][]Pair, error) {
	if l.pairs != nil {
		return l.pairs, nil
	}
	var err error
	l.pairs, err = makeGroups(l.info.MaxLength, func(text string) (int, error) {
		ids, err := l.engine.TextTokens(lab.Key{}, []string{text}, lab.Spelling{})
		if err != nil {
			return 0, err
		}
		return len(ids[0]), nil
	})
	return l.pairs, err
}

// score returns the logits of pairs in a reading, NaN for those that the reading
// cannot make.
func (l *local) score(ctx context.Context, r reading, pairs []Pair) ([]float64, error) {
	all, err := l.join(r, pairs)
	if err != nil {
		return nil, err
	}
	e, known := l.engine, l.logits
	if r.lastLayer {
		if e, err = l.lastLayer(); err != nil {
			return nil, err
		}
		known = l.lastOf
	}
	if !r.lastLayer && r.limit > l.info.MaxLength {
		e = l.longest()
	}
	if err := l.compute(ctx, e, known, all); err != nil {
		return nil, err
	}
	logits := make([]float64, len(all))
	for i, j := range all {
		logits[i] = math.NaN()
		if logit, ok := known[j.key()]; ok && j.ids != nil {
			logits[i] = logit
		}
	}
	return logits, nil
}

// join makes the tokens of pairs.
func (l *local) join(r reading, pairs []Pair) ([]joined, error) {
	if r.cut == cutOwn {
		r.cut = cutRight
		if l.info.TruncationSide == engine.TruncateLeft {
			r.cut = cutLeft
		}
	}
	type texts struct{ query, document string }
	list := make([]texts, len(pairs))
	for i, p := range pairs {
		list[i].query, list[i].document = r.texts(p, l.info.Prompt)
	}
	var missing []string
	for _, t := range list {
		for _, text := range []string{t.query, t.document} {
			if key := (spelled{text, r.spelling}); l.tokens[key] == nil {
				l.tokens[key] = []int32{}
				missing = append(missing, text)
			}
		}
	}
	if len(missing) > 0 {
		ids, err := l.engine.TextTokens(lab.Key{}, missing, r.spelling)
		if err != nil {
			return nil, err
		}
		for i, text := range missing {
			if ids[i] != nil {
				l.tokens[spelled{text, r.spelling}] = ids[i]
			}
		}
	}
	out := make([]joined, len(pairs))
	for i, t := range list {
		out[i] = r.join(l.template, l.tokens[spelled{t.query, r.spelling}], l.tokens[spelled{t.document, r.spelling}], l.info.MaxLength)
	}
	return out, nil
}

// key identifies what the model computes.
func (j joined) key() string {
	key := make([]byte, 0, 5*len(j.ids))
	for i, id := range j.ids {
		key = append(binary.LittleEndian.AppendUint32(key, uint32(id)), byte(j.types[i]))
	}
	return string(key)
}

// lastLayer returns the engine with the last layer of the head only.
func (l *local) lastLayer() (_ *engine.Engine, err error) {
	if l.last == nil {
		l.last, err = l.openLast()
		l.lastOf = map[string]float64{}
	}
	return l.last, err
}

// longest returns the engine that takes the longest pairs.
func (l *local) longest() *engine.Engine {
	if l.long == nil && l.openLong != nil {
		if e, err := l.openLong(); err == nil {
			l.long = e
		}
		l.openLong = nil // longer pairs cannot be computed if it failed
	}
	return cmp.Or(l.long, l.engine)
}

// close closes the engines that the comparison has opened.
func (l *local) close() error {
	var errs []error
	for _, e := range []*engine.Engine{l.last, l.long} {
		if e != nil {
			errs = append(errs, e.Close())
		}
	}
	return errors.Join(errs...)
}

// compute scores the pairs whose logits are not known yet and that the engine takes.
func (l *local) compute(ctx context.Context, e *engine.Engine, known map[string]float64, all []joined) error {
	var todo []engine.Tokens
	var keys []string
	seen := map[string]bool{}
	for _, j := range all {
		key := j.key()
		if _, ok := known[key]; ok || seen[key] || j.ids == nil || len(j.ids) > e.Info().MaxLength {
			continue
		}
		seen[key] = true
		todo, keys = append(todo, engine.Tokens{IDs: j.ids, TypeIDs: j.types}), append(keys, key)
	}
	for from := 0; from < len(todo); from += passPairs {
		end := min(from+passPairs, len(todo))
		result, err := e.ScoreRaw(ctx, lab.Key{}, todo[from:end])
		if err != nil {
			return err
		}
		for i, logit := range result.Logits {
			known[keys[from+i]] = float64(logit)
		}
		l.progress(end - from)
	}
	return nil
}
