package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/internal/telemetry"
	"github.com/mlxrank/mlxrank/mlx"
)

// VariantEnv names the environment variable that forces a variant of the unfused
// graph.
const VariantEnv = "MLXRANK_GPU_VARIANT"

const (
	// choiceBudget is when a choice begins no further trial or round.
	choiceBudget = 2 * time.Second

	// trialLimit is when opening a session or a batch of a trial counts as hung. A busy
	// CPU without kernels for half precision takes longer than a GPU that works.
	trialLimit    = 10 * time.Second
	cpuTrialLimit = 10 * time.Minute

	choiceRounds = 5 // of timing over all correct variants; the median counts
)

// A Choice is the variant of the unfused graph that computes, and what was found
// when it was chosen. The fused graph of the CPU has no variants.
type Choice struct {
	Variant string        `json:"variant"`
	Source  string        `json:"-"` // "default", "forced", "measured" or "cached"; "" until it is chosen, and on the fused graph
	Took    time.Duration `json:"took_ns"`
	Trials  []Trial       `json:"trials"` // "reference" first
}

// A Trial is what was found of one variant.
type Trial struct {
	Variant string `json:"variant"`
	// Error is the largest difference of a logit from the CPU's in float32, as a
	// share of the logits' deviation. It is -1 if no logits were compared.
	Error float64       `json:"error"`
	Time  time.Duration `json:"time_ns"`         // median for a batch like 20 pairs of 128 tokens; 0 if not timed
	Fault string        `json:"fault,omitempty"` // why the variant is not used
}

// trial returns what was found of a variant, nil if it was not tried.
func (c *Choice) trial(variant string) *Trial {
	if i := slices.IndexFunc(c.Trials, func(t Trial) bool { return t.Variant == variant }); i >= 0 {
		return &c.Trials[i]
	}
	return nil
}

// Milliseconds returns the time of each variant that was timed.
func (c *Choice) Milliseconds() map[string]float64 {
	times := make(map[string]float64)
	for _, t := range c.Trials {
		if t.Time > 0 {
			times[t.Variant] = telemetry.Milliseconds(t.Time)
		}
	}
	return times
}

// isSound reports whether a kept choice can be used: its variant is one of the
// model's and was found correct.
func (c *Choice) isSound(variants []string) bool {
	t := c.trial(c.Variant)
	return slices.Contains(variants, c.Variant) && t != nil && t.Fault == "" && t.Error >= 0
}

var (
	errHung  = errors.New("it does not finish")
	errWrong = errors.New("its scores are wrong")
)

// A chooser finds the fastest variant that is correct on this device.
type chooser struct {
	variants  []string // to try, in this order
	open      func(variant string) (backend, error)
	exact     func() ([]float32, error) // the CPU's logits of check, in float32
	check     mlx.Batch                 // to compare
	work      mlx.Batch                 // to time; empty if there is nothing to choose
	labels    int
	tolerance float64 // largest error of a logit, as a share of the logits' deviation
	budget    time.Duration
	limit     time.Duration // of one call of the device
	log       zerolog.Logger
}

// A candidate is a trial and its open session.
type candidate struct {
	Trial
	session backend // nil if it does not open, or hangs
	times   []time.Duration
}

// choose tries all variants and returns the choice with the open session of its
// variant. With an error of the first variant, which is the one that must work, it
// returns no session. The choice then has what was found, so that a variant that
// hangs is not tried again: it has a variant if that may be used after a restart.
//
// The first variant is compared whatever that takes. The budget ends the rest: the
// fastest so far is chosen, which is the first if none was timed.
func (c *chooser) choose(ctx context.Context) (choice Choice, session backend, err error) {
	start := time.Now()
	want, err := c.exact()
	if err == nil && slices.ContainsFunc(want, func(logit float32) bool { return !finite(logit) }) {
		err = fmt.Errorf("a logit is not finite: %v; check the model's files", want)
	}
	if err != nil {
		return choice, nil, fmt.Errorf("engine: computing on the CPU what the device is compared with: %w", err)
	}
	var all []*candidate
	defer func() {
		for _, t := range all {
			choice.Trials = append(choice.Trials, t.Trial)
			if t.session != nil && t.session != session {
				c.closeSession(t)
			}
		}
		choice.Took = time.Since(start)
	}()
	for i, name := range c.variants {
		if err := ctx.Err(); err != nil {
			return choice, nil, err
		}
		if i > 0 && time.Since(start) > c.budget {
			c.log.Info().Strs("untried", c.variants[i:]).Dur("budget_ms", c.budget).Msg("the time to choose a variant is over")
			break
		}
		t, cause := c.try(name, want)
		all = append(all, t)
		switch {
		case cause == nil:
		case i == 0:
			return choice, nil, c.refuse(t, cause)
		case errors.Is(cause, errHung):
			choice.Variant = all[0].Variant
			if _, err := c.run(all[0], c.check); err != nil {
				return choice, nil, fmt.Errorf("%w: variant %s of the graph hung, and now the device does not answer: %w; restart the program, which will not try it again", ErrUnhealthy, name, err)
			}
		}
	}
	if err := c.time(ctx, start, all); err != nil {
		return choice, nil, err
	}
	best := all[0]
	for _, t := range all[1:] {
		if t.Fault == "" && t.Time > 0 && t.Time < best.Time {
			best = t
		}
	}
	choice.Variant = best.Variant
	return choice, best.session, nil
}

// try opens a variant and compares its logits with those that are wanted.
func (c *chooser) try(name string, want []float32) (*candidate, error) {
	t := &candidate{Trial: Trial{Variant: name, Error: -1}}
	session, err := within(c.log, c.limit, func() (backend, error) { return c.open(name) }, closeLate)
	if err != nil {
		return t, c.drop(t, fmt.Errorf("it does not open: %w", err))
	}
	t.session = session
	got, err := c.run(t, c.check)
	if err != nil {
		return t, c.drop(t, err)
	}
	if t.Error = errorOf(got, want); !(t.Error <= c.tolerance) {
		return t, c.drop(t, fmt.Errorf("%w: a logit is off by %.2g of the deviation of the logits, tolerance %.2g", errWrong, t.Error, c.tolerance))
	}
	if len(c.work.Lengths) > 0 {
		// The first batch of a shape compiles kernels, so that its time means nothing.
		if _, err := c.run(t, c.work); err != nil {
			return t, c.drop(t, err)
		}
	}
	return t, nil
}

// time times the correct variants, one batch of each in turn, so that what else
// the machine does affects all of them.
func (c *chooser) time(ctx context.Context, start time.Time, all []*candidate) error {
	if len(c.work.Lengths) == 0 {
		return nil
	}
	for round := range choiceRounds {
		for i, t := range all {
			if err := ctx.Err(); err != nil {
				return err
			}
			if t.Fault != "" {
				continue
			}
			if (round > 0 || i > 0) && time.Since(start) > c.budget {
				return nil
			}
			began := time.Now()
			if _, err := c.run(t, c.work); err != nil {
				if err = c.drop(t, err); i == 0 {
					return c.refuse(t, err)
				}
				continue
			}
			t.times = append(t.times, time.Since(began))
			slices.Sort(t.times)
			t.Time = t.times[len(t.times)/2]
		}
	}
	return nil
}

// run computes a batch and returns its logits, which are finite.
func (c *chooser) run(t *candidate, b mlx.Batch) ([]float32, error) {
	session := t.session
	logits, err := within(c.log, c.limit, func() ([]float32, error) {
		ticket, err := session.Submit(b)
		if err != nil {
			return nil, err
		}
		out := make([]float32, len(b.Lengths)*c.labels)
		_, err = session.Collect(ticket, out)
		return out, err
	}, func([]float32) error { return session.Close() })
	if err != nil {
		if errors.Is(err, errHung) {
			t.session = nil // Close would wait for the batch
		}
		return nil, err
	}
	for i, logit := range logits {
		if !finite(logit) {
			return nil, fmt.Errorf("%w: logit %d is %v", errWrong, i, logit)
		}
	}
	return logits, nil
}

// drop records why a variant is not used, and returns the reason.
func (c *chooser) drop(t *candidate, err error) error {
	t.Fault, t.Time = firstLine(err), 0
	event := c.log.Warn().Str("variant", t.Variant).Err(err)
	if t.Error >= 0 {
		event.Float64("error", t.Error)
	}
	event.Msg("variant is not used")
	return err
}

// refuse returns the error of the variant without which the device is of no use.
func (c *chooser) refuse(t *candidate, err error) error {
	return fmt.Errorf("%w: variant %s of the graph cannot be used on this device: %w", ErrUnhealthy, t.Variant, err)
}

func (c *chooser) closeSession(t *candidate) {
	_, err := within(c.log, c.limit, func() (struct{}, error) { return struct{}{}, t.session.Close() }, func(struct{}) error { return nil })
	if err != nil {
		c.log.Warn().Err(err).Str("variant", t.Variant).Msg("closing the session of a variant")
	}
}

// within returns what f returns, or errHung if that takes too long. f then runs on,
// and late gets what it returns in the end.
func within[T any](log zerolog.Logger, limit time.Duration, f func() (T, error), late func(T) error) (T, error) {
	type outcome struct {
		value T
		err   error
	}
	done := make(chan outcome, 1)
	var claimed atomic.Bool // by the first of both: f's end and the limit
	go func() {
		var o outcome
		o.err = guard("trying a variant", func() (err error) {
			o.value, err = f()
			return err
		})
		if claimed.CompareAndSwap(false, true) {
			done <- o
		} else if err := late(o.value); err != nil {
			log.Warn().Err(err).Msg("closing the session of a variant that hung")
		}
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case o := <-done:
		return o.value, o.err
	case <-timer.C:
	}
	if !claimed.CompareAndSwap(false, true) {
		o := <-done
		return o.value, o.err
	}
	var none T
	return none, fmt.Errorf("%w in %v", errHung, limit)
}

// closeLate closes a session that opened too late; nil is one that did not open.
func closeLate(session backend) error {
	if session == nil {
		return nil
	}
	return session.Close()
}

// errorOf returns the largest difference of a logit, as a share of the deviation of
// the logits that are wanted.
//
// A model may give these few pairs nearly the same logits, whose deviation is then
// less than rounding moves each of them. So the deviation counts as at least a
// quarter of the logits' size.
func errorOf(got, want []float32) float64 {
	if len(got) != len(want) {
		return math.Inf(1)
	}
	worst, mean, square := 0.0, 0.0, 0.0
	n := float64(len(want))
	for i, w := range want {
		worst = max(worst, math.Abs(float64(got[i])-float64(w)))
		mean += float64(w) / n
		square += float64(w) * float64(w) / n
	}
	if worst == 0 {
		return 0
	}
	return worst / max(math.Sqrt(max(0, square-mean*mean)), math.Sqrt(square)/4)
}

// tolerance returns the largest error of a correct variant, as a share of the
// deviation of the logits.
//
// In float16 it is the bound of the builtin model's goldens in half precision. The
// goldens' tiny models are off by up to 0.016 in float16 and 0.069 in bfloat16, and
// PyTorch by up to 0.0073 and 0.051: rounding at other points makes up to three times
// as much. In float32 the goldens allow 1e-4; a GPU sums in another order in kernels
// of other shapes. A dropped layer is off by more than 0.15.
func tolerance(dtype DType) float64 {
	switch dtype {
	case Float16, Int8W, Int4W:
		return 0.05
	case BFloat16:
		return 0.15
	}
	return 1e-3
}

// checkForced returns an error unless the variant that the user forces is one of
// the model's.
func checkForced(forced string, variants []string) error {
	if forced == "" || slices.Contains(variants, forced) {
		return nil
	}
	return fmt.Errorf("engine: %s is %q, which is no variant of this model's graph here; expected one of: %s", VariantEnv, forced, strings.Join(variants, ", "))
}

// firstLine returns an error's text without the stack of a panic.
func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// log logs a choice that was measured.
func (c *Choice) log(log zerolog.Logger) {
	event := log.Info().Str("variant", c.Variant).Str("source", c.Source).Float64("took_ms", telemetry.Milliseconds(c.Took))
	for _, t := range c.Trials {
		if t.Time > 0 {
			event.Float64(strings.ReplaceAll(t.Variant, "-", "_")+"_ms", telemetry.Milliseconds(t.Time))
		}
	}
	event.Msg("variant chosen")
}

func finite(x float32) bool {
	return !math.IsNaN(float64(x)) && !math.IsInf(float64(x), 0)
}
