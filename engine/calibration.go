package engine

import (
	"cmp"
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

	"github.com/mlxrank/mlxrank/internal/atomicfile"
	"github.com/mlxrank/mlxrank/mlx"
)

// A Calibration is the cost model that the planner works with, and what it was
// measured by.
type Calibration struct {
	Source string `json:"-"` // "assumed", "cached" or "measured"

	Model   string `json:"model"`
	Device  string `json:"device"`
	DType   string `json:"dtype"`
	Library string `json:"library"`
	Lanes   int    `json:"lanes"` // shards at work at once

	Costs
	Took   time.Duration      `json:"took_ns"`
	Points []CalibrationPoint `json:"points"`
}

// A CalibrationPoint is a shape of shard that was measured.
type CalibrationPoint struct {
	Pairs     int           `json:"pairs"`
	Width     int           `json:"width"`
	Measured  time.Duration `json:"measured_ns"`
	Predicted time.Duration `json:"predicted_ns"`
}

const (
	// calibrationTime is when measuring stops; the shape under way is finished.
	calibrationTime = 600 * time.Millisecond

	// A request with so much predicted work has the engine calibrated first, if
	// no calibration is cached: it makes up a small part of the request's time.
	worthCalibrating = 30 * time.Second
)

// assumedCosts are used until there are measured ones. Only how the terms
// compare matters to a plan, and they are of the right order.
func assumedCosts(d mlx.Device) Costs {
	if d == mlx.GPU {
		return Costs{Shard: 1e6, Token: 1e4, Square: 2}
	}
	return Costs{Shard: 5e5, Token: 2e5, Square: 100}
}

// Calibration is the cost model in use.
func (e *Engine) Calibration() Calibration {
	e.pipeline.mu.Lock()
	defer e.pipeline.mu.Unlock()
	return e.pipeline.calibration
}

// Calibrate measures the cost model anew, which takes less than a second in
// which nothing else is executed, and keeps it in the user's cache folder for
// engines that run the same on the same.
//
// Nobody need call it: an engine finds what an earlier one kept, and
// calibrates itself before work of half a minute or more. Until then it plans
// by assumed costs.
func (e *Engine) Calibrate(ctx context.Context) (Calibration, error) {
	done := make(chan error, 1)
	if err := e.pipeline.runAlone(job{run: e.pipeline.calibrate, done: done}); err != nil {
		return Calibration{}, err
	}
	select {
	case err := <-done:
		return e.Calibration(), err
	case <-ctx.Done():
		return Calibration{}, ctx.Err()
	}
}

// A job uses the session while no batch does.
type job struct {
	run  func(backend) error
	done chan<- error // has room
}

// runAlone leaves the job to the submitter.
func (p *pipeline) runAlone(j job) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrClosed
	}
	if p.device.unhealthy != nil {
		return fmt.Errorf("%w: %w", ErrUnhealthy, p.device.unhealthy)
	}
	p.jobs = append(p.jobs, j)
	p.poke()
	return nil
}

// nextJob takes one if it can run now.
func (p *pipeline) nextJob() (job, bool) {
	if p.calibration.Source == "assumed" && !p.calibrating && p.costly() {
		p.calibrating = true
		p.jobs = append(p.jobs, job{run: p.calibrate, done: make(chan error, 1)})
	}
	if len(p.jobs) == 0 || p.inFlight > 0 || !p.usable() {
		return job{}, false
	}
	j := p.jobs[0]
	p.jobs = p.jobs[1:]
	p.inFlight++
	return j, true
}

func (p *pipeline) runJob(j job) {
	err := guard(func() error { return j.run(p.session) })
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inFlight--
	p.noteOutcome(err, time.Now())
	p.drained.Broadcast()
	if err != nil {
		p.log.Warn().Err(err).Msg("calibration")
	}
	j.done <- err
}

// costly says whether what the engine has taken in is long work.
func (p *pipeline) costly() bool {
	c, lanes := p.queue.planner.costs, float64(p.layout().lanes)
	return c.Token*float64(p.reserved)/lanes > float64(worthCalibrating)
}

// calibrate measures shards, fits the costs and keeps them.
func (p *pipeline) calibrate(b backend) error {
	start := time.Now()
	points, err := p.layout().measurePoints(b, p.frame, p.labels)
	if err != nil {
		return fmt.Errorf("engine: calibration: %w", err)
	}
	c := p.calibration // what it is of stays
	c.Source, c.Points = "measured", points
	samples := make([]sample, len(points))
	for i, point := range points {
		samples[i] = sample{dense(point.Pairs, point.Width), float64(point.Measured)}
	}
	c.Costs = fit(samples)
	for i := range points {
		points[i].Predicted = time.Duration(c.of(samples[i].shard))
	}
	c.Took = time.Since(start)
	p.mu.Lock()
	p.calibration, p.queue.planner.costs, p.drift = c, c.Costs, 1
	p.pace, p.measured, p.warm = ratio{over: 1e9, under: 1e9}, time.Now(), true
	p.mu.Unlock()
	if p.calibrationFile != "" {
		if err := c.write(p.calibrationFile); err != nil {
			p.log.Warn().Err(err).Msg("calibration is not kept")
		}
	}
	return nil
}

// shapes are shards of few and many tokens, of narrow and wide rows, those of
// least work first.
func (l layout) shapes() []CalibrationPoint {
	var shapes []CalibrationPoint
	for _, width := range []int{32, 128, 512} {
		width = min(width, l.maxWidth)
		for _, rows := range []int{1, l.tokens / 4 / width, l.tokens / 2 / width, l.tokens / width} {
			shape := CalibrationPoint{Pairs: max(1, rows), Width: width}
			if !slices.Contains(shapes, shape) {
				shapes = append(shapes, shape)
			}
		}
	}
	slices.SortFunc(shapes, func(a, b CalibrationPoint) int {
		return cmp.Or(cmp.Compare(a.Pairs*a.Width, b.Pairs*b.Width), cmp.Compare(a.Width, b.Width))
	})
	return shapes
}

// measurePoints measures as many shapes as there is time for, and then again;
// the median counts.
func (l layout) measurePoints(b backend, f frame, labels int) ([]CalibrationPoint, error) {
	shapes := l.shapes()
	if _, err := l.measure(b, shapes[0], f, labels); err != nil { // the first is never like the others
		return nil, err
	}
	times := make([][]time.Duration, len(shapes))
	for start := time.Now(); len(times[0]) < 5; {
		for i, shape := range shapes {
			if i > 3 && time.Since(start) > calibrationTime {
				break
			}
			took, err := l.measure(b, shape, f, labels)
			if err != nil {
				return nil, err
			}
			times[i] = append(times[i], took...)
		}
		if time.Since(start) > calibrationTime {
			break
		}
	}
	var measured []CalibrationPoint
	for i, shape := range shapes {
		if len(times[i]) > 0 {
			slices.Sort(times[i])
			shape.Measured = times[i][len(times[i])/2]
			measured = append(measured, shape)
		}
	}
	return measured, nil
}

// measure runs a shard of the shape on every lane at once, as in ordinary work.
func (l layout) measure(b backend, shape CalibrationPoint, f frame, labels int) ([]time.Duration, error) {
	var input mlx.Batch
	some := f.join(encoded{}, encoded{}, f.special, TruncateRight).IDs[0]
	for range l.lanes {
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
	free := make(map[int]int64)
	var took []time.Duration
	for _, shard := range stats.Microbatches {
		took = append(took, time.Duration(shard.FinishNs-max(shard.StartNs, free[shard.Worker])))
		free[shard.Worker] = shard.FinishNs
	}
	return took, nil
}

// calibrationPath is where the calibration of what c names is kept.
func calibrationPath(c Calibration) (string, error) {
	folder, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(fmt.Sprintf("%q %q %q %q %d", c.Model, c.Device, c.DType, c.Library, c.Lanes)))
	return filepath.Join(folder, "mlxrank", "calibration", hex.EncodeToString(sum[:12])+".json"), nil
}

// readCalibration reads one that was kept, if there is one that can be used
// and is of what c names.
func readCalibration(path string, c Calibration) (Calibration, bool) {
	data, err := os.ReadFile(path)
	if err != nil {
		return c, false
	}
	var kept Calibration
	if err := json.Unmarshal(data, &kept); err != nil {
		return c, false
	}
	same := kept.Model == c.Model && kept.Device == c.Device && kept.DType == c.DType &&
		kept.Library == c.Library && kept.Lanes == c.Lanes
	for _, v := range []float64{kept.Shard, kept.Token, kept.Square} {
		same = same && v >= 0 && !math.IsInf(v, 0)
	}
	if !same || kept.Token == 0 && kept.Square == 0 {
		return c, false
	}
	kept.Source = "cached"
	return kept, true
}

// write puts it in its file, whole or not at all.
func (c *Calibration) write(path string) error {
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := atomicfile.Write(path, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("engine: keep the calibration: %w", err)
	}
	return nil
}
