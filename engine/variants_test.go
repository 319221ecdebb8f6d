package engine

import (
	"context"
	"errors"
	"maps"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/mlx"
)

// A fakeVariant is one variant of a fake device.
type fakeVariant struct {
	takes   time.Duration // of every batch
	first   time.Duration // more, of the first batch: compiling
	opens   time.Duration
	refused error                               // by open
	changed func(call int, logits []float32)    // makes the logits of a call wrong
	fails   func(call int) error                // Collect's error
	hangs   func(call int) (for_ time.Duration) // more than a batch takes
}

// A fakeDevice opens sessions of its variants.
type fakeDevice struct {
	variants map[string]fakeVariant
	mu       sync.Mutex
	opened   map[string]int
	closed   map[string]int
	stuck    bool // no batch ends any more
}

type fakeVariantSession struct {
	fakeBackend
	name   string
	device *fakeDevice
	calls  int
}

func (d *fakeDevice) open(name string) (backend, error) {
	v := d.variants[name]
	time.Sleep(v.opens)
	if v.refused != nil {
		return nil, v.refused
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.opened == nil {
		d.opened, d.closed = make(map[string]int), make(map[string]int)
	}
	d.opened[name]++
	s := &fakeVariantSession{name: name, device: d}
	first := v.first
	s.takes = func(mlx.Batch) time.Duration {
		took := v.takes + first
		first = 0
		return took
	}
	return s, nil
}

func (s *fakeVariantSession) Collect(t mlx.Ticket, out []float32) (mlx.Stats, error) {
	stats, err := s.fakeBackend.Collect(t, out)
	s.calls++
	v := s.device.variants[s.name]
	if v.hangs != nil {
		if d := v.hangs(s.calls); d > 0 {
			s.device.mu.Lock()
			s.device.stuck = s.device.variants["stuck"].takes > 0
			s.device.mu.Unlock()
			time.Sleep(d)
		}
	}
	s.device.mu.Lock()
	stuck := s.device.stuck
	s.device.mu.Unlock()
	if stuck {
		time.Sleep(time.Hour)
	}
	if v.fails != nil && err == nil {
		err = v.fails(s.calls)
	}
	if v.changed != nil && err == nil {
		v.changed(s.calls, out)
	}
	return stats, err
}

func (s *fakeVariantSession) Close() error {
	s.device.mu.Lock()
	s.device.closed[s.name]++
	s.device.mu.Unlock()
	return s.fakeBackend.Close()
}

// checkClosed reports sessions that were not closed.
func (d *fakeDevice) checkClosed(t *testing.T) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !maps.Equal(d.opened, d.closed) {
		t.Errorf("sessions opened %v, closed %v", d.opened, d.closed)
	}
}

// fakeCheck is a batch of three pairs whose fake logits differ.
func fakeCheck() mlx.Batch {
	return mlx.Batch{
		IDs: []int32{1, 5, 2, 1, 9, 9, 2, 1, 2}, TypeIDs: make([]int32, 9),
		Lengths: []int32{3, 4, 2}, Microbatches: []int32{2, 1},
	}
}

func fakeChooser(d *fakeDevice, log zerolog.Logger, variants ...string) *chooser {
	check := fakeCheck()
	return &chooser{
		variants: variants, open: d.open, check: check, work: check, labels: 1,
		exact: func() ([]float32, error) {
			var want []float32
			at := 0
			for _, n := range check.Lengths {
				want = append(want, fakeLogit(check.IDs[at:at+int(n)], check.TypeIDs[at:at+int(n)]))
				at += int(n)
			}
			return want, nil
		},
		tolerance: tolerance(Float16), budget: choiceBudget, limit: trialLimit, log: log,
	}
}

const ms = time.Millisecond

func off(share float32) func(int, []float32) {
	return func(_ int, logits []float32) {
		for i := range logits {
			logits[i] *= 1 + share*float32(i%2*2-1)
		}
	}
}

func atCall(n int, err error) func(int) error {
	return func(call int) error {
		if call == n {
			return err
		}
		return nil
	}
}

func TestFastestCorrectVariantIsChosen(t *testing.T) {
	t.Parallel()
	reference := fakeVariant{takes: 20 * ms}
	for name, test := range map[string]struct {
		other  fakeVariant
		want   string
		fault  string // of the other
		within time.Duration
	}{
		"faster":                      {other: fakeVariant{takes: 10 * ms}, want: "other"},
		"slower":                      {other: fakeVariant{takes: 21 * ms}, want: "reference"},
		"as fast":                     {other: reference, want: "reference"},
		"faster after a slow compile": {other: fakeVariant{takes: 10 * ms, first: 500 * ms}, want: "other"},
		"rounds in another way":       {other: fakeVariant{takes: 10 * ms, changed: off(0.001)}, want: "other"},
		"does not compile":            {other: fakeVariant{refused: errors.New("error: use of undeclared identifier")}, want: "reference", fault: "does not open: error: use of"},
		"panics":                      {other: fakeVariant{fails: func(int) error { panic("boom") }}, want: "reference", fault: "panic while trying a variant: boom"},
		"all rows a little wrong":     {other: fakeVariant{takes: ms, changed: off(0.1)}, want: "reference", fault: "of the deviation of the logits, tolerance"},
		"one row garbage":             {other: fakeVariant{takes: ms, changed: func(_ int, l []float32) { l[1] = 12345 }}, want: "reference", fault: "scores are wrong"},
		"rows swapped":                {other: fakeVariant{takes: ms, changed: func(_ int, l []float32) { l[0], l[1] = l[1], l[0] }}, want: "reference", fault: "scores are wrong"},
		"NaN":                         {other: fakeVariant{takes: ms, changed: func(_ int, l []float32) { l[2] = float32(math.NaN()) }}, want: "reference", fault: "logit 2 is NaN"},
		"infinite only while it is timed": {other: fakeVariant{takes: ms, changed: func(call int, l []float32) {
			if call == 4 {
				l[0] = float32(math.Inf(1))
			}
		}}, want: "reference", fault: "logit 0 is +Inf"},
		"fails at once":              {other: fakeVariant{takes: ms, fails: atCall(1, errDevice)}, want: "reference", fault: errDevice.Error()},
		"fails midway":               {other: fakeVariant{takes: ms, fails: atCall(5, errDevice)}, want: "reference", fault: errDevice.Error()},
		"reports a logit not finite": {other: fakeVariant{takes: ms, fails: atCall(1, &mlx.NativeError{Call: "collect", Status: 7, Text: "logit 0 is NaN"})}, want: "reference", fault: "logit 0 is NaN"},
		"hangs for ever":             {other: fakeVariant{takes: ms, hangs: func(int) time.Duration { return time.Hour }}, want: "reference", fault: "does not finish in 10s", within: 11 * time.Second},
		"hangs while it is timed":    {other: fakeVariant{takes: ms, hangs: func(call int) time.Duration { return time.Duration(call/3) * time.Minute }}, want: "reference", fault: "does not finish in 10s", within: 11 * time.Second},
		"hangs while it opens":       {other: fakeVariant{opens: time.Minute}, want: "reference", fault: "does not open: it does not finish", within: 11 * time.Second},
		"too slow for the budget":    {other: fakeVariant{takes: 3 * time.Second}, want: "reference", within: 7 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := &fakeDevice{variants: map[string]fakeVariant{"reference": reference, "other": test.other}}
				var log strings.Builder
				start := time.Now()
				choice, session, err := fakeChooser(d, zerolog.New(&log), "reference", "other").choose(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				if test.within == 0 {
					test.within = choiceBudget
				}
				if took := time.Since(start); took > test.within || choice.Took != took {
					t.Errorf("took %v, noted %v; want at most %v", took, choice.Took, test.within)
				}
				if choice.Variant != test.want || session.(*fakeVariantSession).name != test.want {
					t.Errorf("chose %s, want %s: %+v", choice.Variant, test.want, choice.Trials)
				}
				other := choice.trial("other")
				if (other.Fault != "") != (test.fault != "") || !strings.Contains(other.Fault, test.fault) {
					t.Errorf("fault %q, want %q", other.Fault, test.fault)
				}
				if test.fault != "" && (other.Time != 0 || !strings.Contains(log.String(), `"variant":"other"`) || !strings.Contains(log.String(), `"level":"warn"`)) {
					t.Errorf("timed as %v; the log says %s", other.Time, log.String())
				}
				if got := choice.trial("reference"); got.Time != reference.takes || got.Error != 0 {
					t.Errorf("reference: %+v", got)
				}
				if err := session.Close(); err != nil {
					t.Error(err)
				}
				time.Sleep(3 * time.Hour) // what hung ends, and its sessions are closed
				d.checkClosed(t)
			})
		})
	}
}

// A device that computes wrong scores with MLX's own operations is of no use.
func TestReferenceMustWork(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]fakeVariant{
		"wrong":           {takes: ms, changed: off(0.1)},
		"one row garbage": {takes: ms, changed: func(_ int, l []float32) { l[2] = 1e6 }},
		"NaN":             {takes: ms, changed: func(_ int, l []float32) { l[0] = float32(math.NaN()) }},
		"fails":           {takes: ms, fails: atCall(1, errDevice)},
		"fails later":     {takes: ms, fails: atCall(4, errDevice)},
		"does not open":   {refused: errDevice},
		"hangs":           {takes: ms, hangs: func(int) time.Duration { return time.Minute }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := &fakeDevice{variants: map[string]fakeVariant{"reference": bad, "other": {takes: ms}}}
				choice, session, err := fakeChooser(d, zerolog.Nop(), "reference", "other").choose(context.Background())
				if !errors.Is(err, ErrUnhealthy) || session != nil || choice.Variant != "" {
					t.Errorf("got %+v, %v, %v; want ErrUnhealthy and no session", choice, session, err)
				}
				if disagrees := name == "wrong" || name == "one row garbage" || name == "NaN"; errors.Is(err, errWrong) != disagrees {
					t.Errorf("%v: reports wrong scores: %v", err, !disagrees)
				}
				time.Sleep(time.Hour)
				d.checkClosed(t)
			})
		})
	}
}

// A variant that hangs the whole device is not tried again after a restart.
func TestVariantThatHangsTheDevice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDevice{variants: map[string]fakeVariant{
			"reference": {takes: ms}, "stuck": {takes: ms, hangs: func(int) time.Duration { return time.Minute }},
		}}
		choice, session, err := fakeChooser(d, zerolog.Nop(), "reference", "stuck").choose(context.Background())
		if !errors.Is(err, ErrUnhealthy) || !strings.Contains(err.Error(), "restart") || session != nil {
			t.Errorf("got %v, %v", session, err)
		}
		if choice.Variant != "reference" || choice.trial("stuck").Fault == "" || !choice.isSound([]string{"reference", "stuck"}) {
			t.Errorf("kept for the next start: %+v", choice)
		}
		time.Sleep(3 * time.Hour)
	})
}

// When the budget runs out, the best so far counts, and the rest is not tried.
func TestChoiceBudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDevice{variants: map[string]fakeVariant{
			"reference": {takes: 300 * ms}, "a": {takes: 200 * ms}, "b": {takes: 400 * ms, first: 700 * ms}, "c": {takes: ms},
		}}
		start := time.Now()
		choice, session, err := fakeChooser(d, zerolog.Nop(), "reference", "a", "b", "c").choose(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		// 600 ms, 400 ms and 1.5 s to compare, then a round that ends at once.
		if took := time.Since(start); took > 3*time.Second || choice.trial("c") != nil || d.opened["c"] != 0 {
			t.Errorf("%v: %+v", took, choice)
		}
		if choice.Variant != "reference" {
			t.Errorf("chose %s, which was not timed", choice.Variant)
		}
		if err := session.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestChoiceEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDevice{variants: map[string]fakeVariant{"reference": {takes: 100 * ms}, "other": {takes: 100 * ms}}}
		ctx, cancel := context.WithTimeout(context.Background(), 250*ms)
		defer cancel()
		start := time.Now()
		_, session, err := fakeChooser(d, zerolog.Nop(), "reference", "other").choose(ctx)
		if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || session != nil || took > 500*ms {
			t.Errorf("%v, %v after %v", session, err, took)
		}
		d.checkClosed(t)
	})
}

// A difference counts as a share of the deviation, which is not taken for less than
// a quarter of the logits' size.
func TestErrorOf(t *testing.T) {
	t.Parallel()
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, test := range []struct {
		got, want []float32
		error     float64
	}{
		{[]float32{1, -1}, []float32{1, -1}, 0},
		{[]float32{1.5, -1}, []float32{1, -1}, 0.5},
		{[]float32{10.1, 10, 10}, []float32{10, 10, 10}, 0.04},
		{[]float32{0, 0}, []float32{0, 0}, 0},
		{[]float32{1}, []float32{1, 2}, math.Inf(1)},
		{[]float32{1, 2}, []float32{1, inf}, math.NaN()},
		{[]float32{nan, 2}, []float32{1, 2}, math.NaN()},
	} {
		got := errorOf(test.got, test.want)
		if !(math.Abs(got-test.error) < 1e-6 || got == test.error || math.IsNaN(got) && math.IsNaN(test.error)) {
			t.Errorf("%v for %v: %v, want %v", test.got, test.want, got, test.error)
		}
	}
}
