package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/mlxrank/mlxrank/engine/internal/schedule"
	"github.com/mlxrank/mlxrank/internal/atomicfile"
	"github.com/mlxrank/mlxrank/mlx"
)

// Costs model how many nanoseconds a microbatch takes:
//
//	Microbatch + Token * tokens computed + Square * sum of squared row widths
type Costs struct {
	Microbatch float64 `json:"microbatch_ns"`
	Token      float64 `json:"token_ns"`
	Square     float64 `json:"square_ns"`
}

// A CostSource names where costs come from.
type CostSource string

// The sources of costs.
const (
	AssumedCosts  CostSource = "assumed"  // predicted from the kind of device, on a GPU also from the model
	CachedCosts   CostSource = "cached"   // an earlier engine measured and kept them
	MeasuredCosts CostSource = "measured" // this engine measured them
)

// A CostModel is the cost model that the planner uses, and its measurements. A
// file in the user's cache folder keeps it for models of the same shape.
type CostModel struct {
	Source CostSource `json:"-"`

	Shape   string `json:"shape"` // of the model
	Device  string `json:"device"`
	DType   string `json:"dtype"`
	Library string `json:"library"`
	Workers int    `json:"workers"` // microbatches computed at once
	Variant string `json:"variant"` // of the unfused graph, whose costs they are
	Choice  Choice `json:"choice"`  // how that variant was chosen

	Costs
	Took   time.Duration `json:"took_ns"`
	Points []CostPoint   `json:"points"`
}

// A CostPoint is a measured shape of microbatch.
type CostPoint struct {
	Pairs     int           `json:"pairs"`
	Width     int           `json:"width"`
	Measured  time.Duration `json:"measured_ns"`
	Predicted time.Duration `json:"predicted_ns"`
}

const (
	// measuringTime limits the time of measuring.
	measuringTime = 600 * time.Millisecond

	measuringRounds = 5 // over all shapes; the median counts
	leastShapes     = 4

	// worthMeasuring is the predicted work after which an engine without saved costs
	// measures them itself.
	worthMeasuring = 30 * time.Second
)

// CostModel returns the cost model in use.
func (e *Engine) CostModel() CostModel {
	e.pipeline.mu.Lock()
	defer e.pipeline.mu.Unlock()
	return e.pipeline.costs
}

// MeasureCosts measures the cost model in less than a second, while no request waits,
// once the variant of the graph is chosen.
// It saves the costs in the user's cache folder, for engines on the same device with a
// model of the same shape.
//
// Programs need not call it. An engine uses the costs that an earlier engine saved.
// Without them it plans by assumed costs and, if plans depend on costs, measures them
// when it is idle after half a minute of work in all.
func (e *Engine) MeasureCosts(ctx context.Context) (CostModel, error) {
	if err := e.Ready(ctx); err != nil { // the shapes to measure are the variant's
		return CostModel{}, err
	}
	done := make(chan error, 1)
	if err := e.pipeline.requestMeasurement(done); err != nil {
		return CostModel{}, err
	}
	select {
	case err := <-done:
		return e.CostModel(), err
	case <-ctx.Done():
		return CostModel{}, ctx.Err()
	}
}

// A measurement is an unfinished measurement of costs. It measures one shape at a time,
// so that a request that arrives waits for one microbatch at most.
type measurement struct {
	shapes  []schedule.Shape
	times   [][]time.Duration // of each shape
	steps   int
	spent   time.Duration
	waiters []chan<- error // with room for one
}

// requestMeasurement begins to measure, or joins a measurement.
func (p *pipeline) requestMeasurement(done chan<- error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrClosed
	}
	if p.device.unhealthy != nil {
		return fmt.Errorf("%w: %w", ErrUnhealthy, p.device.unhealthy)
	}
	p.beginMeasuring()
	p.measuring.waiters = append(p.measuring.waiters, done)
	p.poke()
	return nil
}

// planMeasurement begins to measure, once, if the engine has taken in long work, a
// request of so many tokens included, and plans depend on costs that are assumed.
func (p *pipeline) planMeasurement(tokens int) {
	p.taken += tokens
	if !p.costsMeasured && p.costs.Source == AssumedCosts && p.schedule.DecidesByCosts() && p.schedule.TokenTime(p.taken) > worthMeasuring {
		p.costsMeasured = true
		p.beginMeasuring()
	}
}

func (p *pipeline) beginMeasuring() {
	if p.measuring == nil {
		shapes := p.schedule.Layout().Shapes()
		p.measuring = &measurement{shapes: shapes, times: make([][]time.Duration, len(shapes))}
	}
}

// endMeasuring answers the callers of MeasureCosts.
func (p *pipeline) endMeasuring(err error) {
	if p.measuring == nil {
		return
	}
	for _, done := range p.measuring.waiters {
		done <- err
	}
	p.measuring = nil
}

// shouldMeasure reports whether the next shape can be measured: never while a
// request waits.
func (p *pipeline) shouldMeasure() bool {
	return p.measuring != nil && p.device.usable() && p.scoring == 0 && p.schedule.InFlight() == 0
}

// measure measures the next shape, without the lock.
func (p *pipeline) measure(m *measurement) {
	start := time.Now()
	p.mu.Lock()
	p.schedule.MeasureBegan(m.next(), start)
	p.watchDevice(start)
	p.mu.Unlock()
	err := guard("measuring costs", func() error { return m.step(p.device.session, p.schedule.Layout().Workers, p.texts.frame, p.labels) })
	p.mu.Lock()
	defer p.mu.Unlock()
	at := time.Now()
	m.spent += at.Sub(start)
	p.schedule.MeasureEnded()
	p.watchDevice(at)
	p.noteOutcome(err, at)
	p.noteReturn()
	p.drained.Broadcast()
	switch {
	case p.measuring != m: // closed meanwhile
	case err != nil:
		err = fmt.Errorf("engine: measure costs: %w", err)
		p.log.Warn().Err(err).Msg("measurement of costs")
		p.endMeasuring(err)
	case m.isDone():
		p.costs = m.fit(p.costs)
		p.schedule.SetCosts(schedule.Costs(p.costs.Costs), at)
		kept := p.costs
		kept.Choice = p.kept.Choice
		p.kept = kept
		p.mu.Unlock()
		p.keepCosts(kept)
		p.mu.Lock()
		p.endMeasuring(nil)
	}
}

func (m *measurement) isDone() bool {
	measured := m.steps - 1
	return measured >= measuringRounds*len(m.shapes) || measured >= min(leastShapes, len(m.shapes)) && m.spent > measuringTime
}

// next returns the shape to measure now.
func (m *measurement) next() schedule.Shape { return m.shapes[max(0, m.steps-1)%len(m.shapes)] }

// step measures the next shape. The first time is never like the others and does
// not count.
func (m *measurement) step(b backend, workers int, f frame, labels int) error {
	took, err := measureShape(b, m.next(), workers, f, labels)
	if m.steps > 0 {
		i := (m.steps - 1) % len(m.shapes)
		m.times[i] = append(m.times[i], took...)
	}
	m.steps++
	return err
}

// fit returns the model c with costs that are fitted to the measurement.
func (m *measurement) fit(c CostModel) CostModel {
	c.Source, c.Points, c.Took = MeasuredCosts, nil, m.spent
	var samples []schedule.Sample
	for i, shape := range m.shapes {
		if len(m.times[i]) == 0 {
			continue
		}
		slices.Sort(m.times[i])
		median := m.times[i][len(m.times[i])/2]
		c.Points = append(c.Points, CostPoint{Pairs: shape.Pairs, Width: shape.Width, Measured: median})
		samples = append(samples, schedule.Sample{Microbatch: schedule.Padded(shape.Pairs, shape.Width), Nanoseconds: float64(median)})
	}
	costs := schedule.Fit(samples)
	c.Costs = Costs(costs)
	for i := range c.Points {
		c.Points[i].Predicted = time.Duration(costs.Of(samples[i].Microbatch))
	}
	return c
}

func (p *pipeline) keepCosts(c CostModel) {
	if p.costsFile == "" || len(c.Choice.Trials) == 0 && len(c.Points) == 0 {
		return
	}
	if err := c.write(p.costsFile); err != nil {
		p.log.Warn().Err(err).Msg("costs are not kept")
	}
}

// measureShape computes a microbatch of the shape on every worker at once, as in
// ordinary work.
func measureShape(b backend, shape schedule.Shape, workers int, f frame, labels int) ([]time.Duration, error) {
	var input mlx.Batch
	some := f.join(encoded{}, encoded{}, f.special, TruncateRight).IDs[0]
	for range workers {
		for range shape.Pairs {
			for range shape.Width {
				input.IDs = append(input.IDs, some)
			}
			input.Lengths = append(input.Lengths, int32(shape.Width))
		}
		input.Microbatches = append(input.Microbatches, int32(shape.Pairs))
	}
	input.TypeIDs = make([]int32, len(input.IDs))
	ticket, err := b.Submit(input)
	if err != nil {
		return nil, err
	}
	stats, err := b.Collect(ticket, make([]float32, len(input.Lengths)*labels))
	if err != nil {
		return nil, err
	}
	return schedule.Took(timings(stats)), nil
}

// costsPath returns the file for costs of the same device and shape of
// model as c.
func costsPath(c CostModel) (string, error) {
	folder, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(fmt.Sprintf("3 %q %q %q %q %d", c.Shape, c.Device, c.DType, c.Library, c.Workers)))
	return filepath.Join(folder, "mlxrank", "costs", hex.EncodeToString(sum[:12])+".json"), nil
}

// readCostModel reads what is kept for the device and the shape of model of c. It is
// not ok, and returns c, if the file is damaged or is for others.
func readCostModel(path string, c CostModel) (CostModel, bool) {
	data, err := os.ReadFile(path)
	if err != nil {
		return c, false
	}
	var kept CostModel
	if err := json.Unmarshal(data, &kept); err != nil {
		return c, false
	}
	if kept.Shape != c.Shape || kept.Device != c.Device || kept.DType != c.DType || kept.Library != c.Library || kept.Workers != c.Workers {
		return c, false
	}
	return kept, true
}

// hasCosts reports whether a kept model has costs of the variant.
func (c *CostModel) hasCosts(variant string) bool {
	for _, v := range []float64{c.Microbatch, c.Token, c.Square} {
		if !(v >= 0) || math.IsInf(v, 0) {
			return false
		}
	}
	return c.Variant == variant && c.Token+c.Square > 0
}

// write writes the model to its file in one step.
func (c *CostModel) write(path string) error {
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := atomicfile.Write(path, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("engine: keep the costs: %w", err)
	}
	return nil
}
