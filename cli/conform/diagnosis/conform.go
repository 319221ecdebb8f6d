// Package diagnosis compares the answers of a rerank server with the scores that a model
// has in float32, and names the fault that explains the differences.
//
// A fault is a hypothesis: how the server makes tokens of a pair (a reading), scores of
// logits (a form), and results of scores (an order). The engine computes what a server
// with the hypothesis answers. Short plain pairs decide about the faults that all pairs
// have; then the other pairs about the faults that only some have.
package diagnosis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/internal/lab"
)

// leastPlain is how many plain pairs must be answered for a verdict.
const leastPlain = 12

// Progress receives the number of pairs that were sent or computed since the last call.
type Progress func(pairs int)

// Run compares a server with an engine of the configuration, which must be in float32.
// An error means that the server or the engine cannot be used.
func Run(ctx context.Context, cfg engine.Config, s Server, progress Progress) (_ *Report, err error) {
	e, err := engine.Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	l := newLocal(e, progress)
	l.openLast = func() (*engine.Engine, error) {
		last := cfg
		last.Lab = &lab.Options{LastLayer: true}
		return engine.Open(ctx, last)
	}
	l.openLong = func() (*engine.Engine, error) {
		long := cfg
		long.MaxLength = 0 // the model's own
		return engine.Open(ctx, long)
	}
	defer func() { err = errors.Join(err, l.close()) }()
	return l.compare(ctx, s)
}

// compare compares a server with the engine.
func (l *local) compare(ctx context.Context, s Server) (*Report, error) {
	list, err := l.groups()
	if err != nil {
		return nil, err
	}
	c, err := dial(ctx, s, list[0][:2])
	if err != nil {
		return nil, err
	}
	r := &Report{
		URL: c.base.Redacted(), API: c.api.name, Path: cmpPath(c.path, c.base), Version: c.askVersion(ctx),
		Model: l.info.Model, MaxLength: l.info.MaxLength, Faults: []Fault{},
	}
	if c.api.name != "tei" {
		r.Asked = c.model
	}
	run := &run{report: r, ask: c.ask, diagnosis: diagnosis{local: l, forms: forms(l.engine)}}
	for _, pairs := range list {
		a, err := c.ask(ctx, pairs)
		if errors.Is(err, errShape) {
			return nil, fmt.Errorf("the server at %s: %w", r.URL+c.path, err)
		}
		if err != nil {
			return nil, err
		}
		run.groups = append(run.groups, group{pairs, a})
		l.progress(len(pairs))
	}
	return r, run.judge(ctx)
}

// A run is a comparison under way.
type run struct {
	diagnosis
	ask    asker
	report *Report
}

// judge fills in the report.
func (r *run) judge(ctx context.Context) error {
	r.report.Faults = append(r.report.Faults, r.defects()...)
	own, err := r.compareOwn(ctx)
	if err != nil {
		return err
	}
	plain := 0
	for _, g := range r.plain() {
		for _, x := range g.scores {
			if !math.IsNaN(x) {
				plain++
			}
		}
	}
	if plain < leastPlain {
		return r.withoutScores(own)
	}
	h, found, err := r.global(ctx)
	if err != nil {
		return err
	}
	size, ok := found.noise()
	if h.order == orderAny && size.rms > noises[1].rms {
		ok = false // an order can be found for any scores
	}
	if !ok || size.rms > noises[1].rms { // a slope close to 1 looks like lost precision
		scaled, c, fits, err := r.rescaled(ctx)
		if err != nil {
			return err
		}
		if fits && (!ok || 9*c.loss() < found.loss()) {
			h, found, ok = scaled, c, true
			size, _ = c.noise()
		}
	}
	if !ok {
		return r.surrender(ctx, own)
	}
	r.report.Form = r.forms[h.form].note
	limit := max(exactMax, min(5*found.loss(), size.max))
	if size.name == noises[0].name {
		limit = exactMax
	}
	refined, err := r.refine(ctx, h, limit)
	if err != nil {
		return err
	}
	if refined.reading, err = r.prune(ctx, refined, h.reading, limit); err != nil {
		return err
	}
	return r.conclude(ctx, refined, limit)
}

// compareOwn computes the right scores and their deviation.
func (r *run) compareOwn(ctx context.Context) (*comparison, error) {
	var logits []float64
	var answers []float64
	for _, g := range r.groups {
		z, err := r.local.score(ctx, reading{}, g.pairs)
		if err != nil {
			return nil, err
		}
		logits = append(logits, z...)
		for _, x := range g.scores {
			if !math.IsNaN(x) {
				answers = append(answers, x)
			}
		}
	}
	r.dev = deviation(logits)
	r.grid = grid{-1, 0}
	r.fixConstant(answers)
	if len(answers) > 0 && slices.Min(answers) < slices.Max(answers) {
		r.grid = findGrid(answers)
	}
	if r.dev == 0 {
		return nil, fmt.Errorf("all scores of model %q are equal, so nothing can be compared", r.report.Model)
	}
	return r.compare(ctx, hypothesis{}, r.groups)
}

func deviation(values []float64) float64 {
	var n, sum, squares float64
	for _, x := range values {
		n, sum, squares = n+1, sum+x, squares+x*x
	}
	return math.Sqrt(max(0, squares/n-sum/n*sum/n))
}

// refine finds the faults that only some pairs show.
func (r *run) refine(ctx context.Context, h hypothesis, limit float64) (hypothesis, error) {
	maxLength := r.local.info.MaxLength
	simple := func(from reading) []reading { return locals(from, maxLength) }
	h, left, err := r.explain(ctx, h, limit, simple)
	if err != nil || left == 0 {
		return h, err
	}
	var found []func(*reading)
	switch r.forms[h.form].fault {
	case softmaxOverDocuments, minMaxScaled, constant: // a document alone has no score
	default:
		if found, err = r.probe(ctx, h, limit, r.ask); err != nil {
			return h, err
		}
	}
	h, left, err = r.explain(ctx, h, limit, func(from reading) []reading {
		list := simple(from)
		for _, change := range found {
			changed := from
			change(&changed)
			list = append(list, changed)
		}
		return list
	})
	if err != nil || left == 0 {
		return h, err
	}
	h, _, err = r.explain(ctx, h, limit, func(from reading) []reading { return twice(from, simple) })
	return h, err
}

// twice returns the readings with two more changes.
func twice(from reading, more func(reading) []reading) []reading {
	var list []reading
	seen := map[reading]bool{}
	for _, once := range more(from) {
		for _, r := range more(once) {
			if !seen[r] {
				seen[r] = true
				list = append(list, r)
			}
		}
	}
	return list
}

// surrender reports a fault that no hypothesis explains.
func (r *run) surrender(ctx context.Context, own *comparison) error {
	// The form that is nearest shows best which pairs differ.
	var best hypothesis
	c := own
	for form := range r.forms {
		h := hypothesis{form: form}
		tried, err := r.compare(ctx, h, r.groups)
		if err != nil {
			return err
		}
		if tried.loss() < c.loss()/3 {
			best, c = h, tried
		}
	}
	if note := r.forms[best.form].note; note != "" && best.form > 0 {
		r.report.Notes = append(r.report.Notes, "the nearest guess, which explains the answers no better than the table shows: "+note)
	}
	r.report.Verdict = Wrong
	r.report.Faults = append(r.report.Faults, unknown.found("no fault that mlxrank knows explains the answers; see the pairs below"))
	r.fill(own, c, exactMax)
	return nil
}

// conclude reports the faults of a hypothesis, and what it leaves unexplained.
func (r *run) conclude(ctx context.Context, h hypothesis, limit float64) error {
	right := hypothesis{}
	if r.forms[h.form].fault == "" {
		right.form = h.form
	}
	own, err := r.compare(ctx, right, r.groups)
	if err != nil {
		return err
	}
	c, err := r.compare(ctx, h, r.groups)
	if err != nil {
		return err
	}
	faults := h.reading.faults(r.local.info.MaxLength)
	if text, ok := orderFaults[h.order]; ok {
		faults = append(faults, wrongOrder.found("%s", text))
	}
	if slices.ContainsFunc(r.groups, func(g group) bool { return g.first == 1 }) {
		faults = append(faults, wrongOrder.found("the indexes of results begin with 1 instead of 0"))
	}
	faults = append(faults, r.formFaults(h)...)
	if left := c.beyond(limit); left > 0 {
		faults = append(faults, unknown.found("no fault that mlxrank knows explains %d of the answers; see the pairs below", left))
	}
	faults = append(faults, r.sizeFaults(c, h, limit)...)
	r.report.Faults = append(r.report.Faults, faults...)
	r.report.Verdict = Right
	if len(r.report.Faults) > 0 {
		r.report.Verdict = Wrong
	}
	r.fill(own, c, limit)
	return nil
}

func (r *run) formFaults(h hypothesis) []Fault {
	texts := map[fault]string{
		sigmoidMissing:       "scores are logits, and the model's activation is the sigmoid (sigmoid missing)",
		sigmoidTwice:         "the sigmoid is applied twice",
		softmaxOverDocuments: "scores are a softmax over the documents of a request, so they depend on the other documents",
		minMaxScaled:         "scores are scaled to 0 to 1 over the documents of a request, so they depend on the other documents",
	}
	f := r.forms[h.form]
	if f.fault == "" {
		return nil
	}
	return []Fault{f.fault.found("%s", cmp.Or(f.text, texts[f.fault]))}
}

// sizeFaults reports rounding and lost precision.
func (r *run) sizeFaults(c *comparison, h hypothesis, limit float64) []Fault {
	if r.forms[h.form].fault == constant {
		return nil
	}
	var list []Fault
	switch {
	case r.grid.decimals >= 0:
		list = append(list, rounding.found("scores are rounded to %d decimals", r.grid.decimals))
	case r.grid.bits == 8:
		list = append(list, rounding.found("scores are rounded to bfloat16"))
	case r.grid.bits == 11:
		list = append(list, rounding.found("scores are rounded to float16"))
	}
	explained := &comparison{}
	for i, x := range c.shares {
		if x <= limit {
			explained.shares = append(explained.shares, x)
			explained.signed, explained.logits, explained.visible = append(explained.signed, c.signed[i]), append(explained.logits, c.logits[i]), append(explained.visible, c.visible[i])
		}
	}
	if size, ok := explained.noise(); ok && size != noises[0] {
		list = append(list, precision.found("logits differ by up to %.2g of their deviation, the size that rounding to %s makes", explained.max(), size.name))
	}
	return list
}

// fill writes the pairs of the report.
func (r *run) fill(own, explained *comparison, limit float64) {
	i := 0
	unsorted := false
	for _, g := range r.groups {
		for k, p := range g.pairs {
			share := explained.shares[i]
			pair := PairReport{
				Kind: p.Kind, Query: clip(p.Query, 100), Document: clip(p.Document, 200), Refused: g.refused[k], share: share,
				Right: number(own.predicted[i]), Answered: number(g.scores[k]), Explained: number(explained.predicted[i]),
				Unexplained: share > limit,
			}
			if pair.Answered == nil {
				r.report.Refused++ // or not scored
			} else {
				r.report.Compared++
				if !pair.Unexplained && !math.IsNaN(share) {
					r.report.MaxShare = max(r.report.MaxShare, share)
					r.report.MaxScore = max(r.report.MaxScore, difference(pair.Explained, pair.Answered))
				}
			}
			r.report.Pairs = append(r.report.Pairs, pair)
			i++
		}
		unsorted = unsorted || !slices.IsSortedFunc(g.ranked, func(a, b int) int { return cmp.Compare(g.scores[b], g.scores[a]) })
	}
	r.report.MaxLogit = r.report.MaxShare * r.dev
	if unsorted && r.report.API != "vllm" {
		r.report.Notes = append(r.report.Notes, "the results are not sorted by score: clients must read their indexes")
	}
	r.noteRefusals()
	if r.local.info.MaxLength > maxStretch {
		r.report.Notes = append(r.report.Notes, fmt.Sprintf("truncation was not compared: the model takes %d tokens, and the built-in texts have at most about %d", r.local.info.MaxLength, maxStretch))
	}
}

// withoutScores judges a server that gives no scores, by its order alone.
func (r *run) withoutScores(own *comparison) error {
	r.report.Verdict = Undecided
	r.report.Reason = "the server refused most of the plain pairs, so nothing can be compared"
	if text, n := r.unscored(); n > 0 {
		r.report.Reason = fmt.Sprintf("the server answered %d of %d pairs without a score: %s", n, len(own.shares), text)
	}
	ordered, wrong := 0, 0
	i := 0
	for _, g := range r.groups {
		for k := 1; k < len(g.ranked); k++ {
			above, below := g.ranked[k-1], g.ranked[k]
			ordered++
			if own.logits[i+above] < own.logits[i+below]-exactMax*r.dev {
				wrong++
			}
		}
		i += len(g.pairs)
	}
	if ordered >= leastPlain {
		r.report.Reason = fmt.Sprintf("%s; its order agrees in %d of %d neighbours", r.report.Reason, ordered-wrong, ordered)
	}
	if ordered >= leastPlain && wrong > 0 {
		r.report.Verdict = Wrong
		r.report.Faults = append(r.report.Faults, wrongOrder.found("%d of %d neighbours in the results are in the wrong order; without scores the cause cannot be found", wrong, ordered))
	}
	if len(r.report.Faults) > 0 {
		r.report.Verdict = Wrong
	}
	r.fill(own, own, exactMax)
	return nil
}

// defects returns what is wrong with the results themselves: one fault of each kind,
// that of the largest request.
func (r *run) defects() []Fault {
	var list []Fault
	largest := map[string]int{}
	for _, g := range r.groups {
		name := g.defect.Name
		if name == "" || len(g.pairs) <= largest[name] {
			continue
		}
		largest[name] = len(g.pairs)
		list = append(slices.DeleteFunc(list, func(f Fault) bool { return f.Name == name }), g.defect)
	}
	return list
}

// unscored counts the pairs that were answered without a score, and returns why.
func (r *run) unscored() (text string, n int) {
	for _, g := range r.groups {
		for i, none := range g.noScore {
			if none {
				text, n = g.refused[i], n+1
			}
		}
	}
	return text, n
}

// noteRefusals adds how many pairs were refused, and how many have no score.
func (r *run) noteRefusals() {
	text, unscored := r.unscored()
	if n := r.report.Refused - unscored; n > 0 {
		r.report.Notes = append(r.report.Notes, fmt.Sprintf("the server refused %d of %d pairs", n, len(r.report.Pairs)))
	}
	if unscored > 0 {
		r.report.Notes = append(r.report.Notes, fmt.Sprintf("%d of %d pairs were answered without a score: %s", unscored, len(r.report.Pairs), text))
	}
}
