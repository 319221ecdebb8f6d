package diagnosis

import (
	"context"
	"math"
	"strings"

	"github.com/mlxrank/mlxrank/internal/lab"
)

// An asker sends pairs of one query to the server.
type asker func(ctx context.Context, pairs []Pair) (answer, error)

// probe finds the shortest beginning of a long document that has the score of the
// whole, by bisection: the server reads no more than that. It returns the changes of a
// reading that may explain it.
func (d *diagnosis) probe(ctx context.Context, h hypothesis, limit float64, ask asker) ([]func(*reading), error) {
	pair, ok, err := d.probed(ctx, h, limit)
	if err != nil || !ok {
		return nil, err
	}
	score := func(n int) (float64, error) {
		cut := pair
		cut.Document = pair.Document[:n]
		a, err := ask(ctx, []Pair{cut})
		if err != nil {
			return math.NaN(), err
		}
		return a.scores[0], nil
	}
	least, most := 0, len(pair.Document)
	want, err := score(most)
	if err != nil || math.IsNaN(want) {
		return nil, err
	}
	allowed := 2e-5 * d.dev
	if want > 0 && want < 1 {
		allowed *= want * (1 - want)
	}
	allowed += 2e-7 * math.Abs(want)
	for most-least > 1 {
		middle := (least + most) / 2
		got, err := score(middle)
		if err != nil {
			return nil, err
		}
		if math.Abs(got-want) <= allowed {
			most = middle
		} else {
			least = middle
		}
	}
	return d.explainProbe(h.reading, pair, most)
}

// probed returns the pair to probe: of the unexplained ones with a long ASCII
// document, the one whose answer shows a difference of the logit best.
func (d *diagnosis) probed(ctx context.Context, h hypothesis, limit float64) (best Pair, ok bool, err error) {
	c, err := d.compare(ctx, h, d.groups)
	if err != nil {
		return best, false, err
	}
	i, steepest := 0, 0.0
	for _, g := range d.groups {
		for k, p := range g.pairs {
			x := g.scores[k]
			steep := 1.0
			if x > 0 && x < 1 {
				steep = x * (1 - x)
			}
			if c.shares[i] > limit && len(p.Document) > 200 && len(p.Query) < 100 && isASCII(p.Document) && steep > steepest {
				best, ok, steepest = p, true, steep
			}
			i++
		}
	}
	return best, ok, nil
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > '~' })
}

// explainProbe returns the changes that may keep n bytes of a pair's ASCII document.
func (d *diagnosis) explainProbe(r reading, pair Pair, n int) ([]func(*reading), error) {
	start := pair.Document[:n]
	query, document := r.texts(Pair{pair.Kind, pair.Query, start}, d.local.info.Prompt)
	ids, err := d.local.engine.TextTokens(lab.Key{}, []string{query, document, start}, r.spelling)
	if err != nil {
		return nil, err
	}
	total := len(ids[0]) + len(ids[1]) + len(r.frame.apply(d.local.template)) - 2
	limits := []int{total, total - 1, total + 1}
	if total > d.local.info.MaxLength+1 {
		longest := d.local.longest().Info().MaxLength
		return limitChanges(append(limits, longest), longest), nil
	}
	var changes []func(*reading)
	for _, k := range []keep{
		{characters, n}, {characters, n + 1}, {bytesOf, n}, {bytesOf, n + 1},
		{words, len(strings.Fields(start))}, {tokensOf, len(ids[2])}, {tokensOf, len(ids[2]) - 1}, {tokensOf, len(ids[2]) + 1},
	} {
		changes = append(changes, func(r *reading) { r.keep = k })
	}
	return append(changes, limitChanges(limits, d.local.info.MaxLength-1)...), nil
}

// limitChanges returns the changes to other limits, of at most most tokens.
func limitChanges(limits []int, most int) []func(*reading) {
	var changes []func(*reading)
	for _, limit := range limits {
		if limit <= most {
			changes = append(changes, func(r *reading) { r.limit = limit })
		}
	}
	return changes
}

// prune takes back the changes since base that do not explain, to the limit, the answer
// of each pair that they change: they are not what the server does.
func (d *diagnosis) prune(ctx context.Context, h hypothesis, base reading, limit float64) (reading, error) {
	for {
		with, err := d.compare(ctx, h, d.groups)
		if err != nil {
			return h.reading, err
		}
		worst, most := h.reading, 0.0
		for _, r := range h.reading.without(base) {
			less := h
			less.reading = r
			c, err := d.compare(ctx, less, d.groups)
			if err != nil {
				return h.reading, err
			}
			if part := with.failing(c, d.dev, limit); part > most {
				worst, most = r, part
			}
		}
		if most == 0 {
			return h.reading, nil
		}
		h.reading = worst
	}
}

// without returns the readings that have one change less since base.
func (r reading) without(base reading) []reading {
	var list []reading
	for _, undo := range []func(*reading){
		func(r *reading) { r.cut = base.cut },
		func(r *reading) { r.limit = base.limit },
		func(r *reading) { r.keep = base.keep },
		func(r *reading) { r.lower = base.lower },
		func(r *reading) { r.spelling.PlainSpecials = base.spelling.PlainSpecials },
		func(r *reading) {
			r.spelling.KeepCase, r.spelling.KeepAccents = base.spelling.KeepCase, base.spelling.KeepAccents
		},
	} {
		less := r
		if undo(&less); less != r {
			list = append(list, less)
		}
	}
	return list
}

// failing returns which part of the pairs that differ from another comparison are
// unexplained.
func (c *comparison) failing(other *comparison, dev, limit float64) float64 {
	changed, failed := 0, 0
	for i, x := range c.shares {
		if math.IsNaN(x) || math.Abs(c.logits[i]-other.logits[i]) <= limit*dev { // NaN is a change
			continue
		}
		if changed++; x > limit {
			failed++
		}
	}
	if changed == 0 {
		return 0
	}
	return float64(failed) / float64(changed)
}
