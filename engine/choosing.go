package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/mlxrank/mlxrank/engine/internal/schedule"
	"github.com/mlxrank/mlxrank/mlx"
	"github.com/mlxrank/mlxrank/weights"
)

// A choosing is a choice of variant that requests wait for.
type choosing struct {
	started bool
	done    chan struct{} // closed once the choice is made, or has failed
	err     error         // why it has failed
	ctx     context.Context
	cancel  context.CancelFunc
}

func newChoosing() *choosing {
	c := &choosing{done: make(chan struct{})}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// close ends the choice. Calls that wait for one that has not begun get ErrClosed at
// once: it never will. The pipeline's lock is held.
func (c *choosing) close() {
	c.cancel()
	if !c.started {
		c.started, c.err = true, ErrClosed
		close(c.done)
	}
}

// A chosen is a choice with its open session.
type chosen struct {
	Choice
	session backend
	layout  mlx.Layout
}

// waitForChoice waits until the variant is chosen: before that no request is
// admitted, since a variant decides how plans are made. If the choice has failed, a
// probe makes it again.
func (p *pipeline) waitForChoice(ctx context.Context, probe bool) error {
	p.mu.Lock()
	c := p.choosing
	if c != nil && probe && !p.closed {
		select {
		case <-c.done:
			c = newChoosing()
			p.choosing = c
			p.poke()
		default:
		}
	}
	p.mu.Unlock()
	if c == nil {
		return nil
	}
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Ready waits until the variant of the graph is chosen, which takes about two seconds
// at the first use of a GPU and no time otherwise. Requests wait for it themselves:
// programs call it to get the final Info before.
func (e *Engine) Ready(ctx context.Context) error { return e.pipeline.waitForChoice(ctx, false) }

// chooseVariant chooses a variant and goes on with its session.
func (p *pipeline) chooseVariant() {
	p.mu.Lock()
	c := p.choosing
	closed := c.started // by close, in the meantime
	c.started = true
	p.mu.Unlock()
	if closed {
		return
	}
	var found chosen
	err := guard("choosing a variant", func() (err error) {
		found, err = p.choose(c.ctx)
		return err
	})
	p.mu.Lock()
	old := p.device.session
	switch {
	case errors.Is(err, context.Canceled):
		c.err = ErrClosed
	case err != nil:
		c.err = err
		p.device.unhealthy = err
		if found.Variant != "" && found.Source == "measured" {
			p.kept.Choice = found.Choice // without the variant that hangs the device
		}
		p.log.Error().Err(err).Msg("no variant can be used")
		p.endMeasuring(err)
	default:
		p.device.session, p.device.unhealthy = found.session, nil
		p.adopt(found)
		p.choosing = nil
	}
	kept := p.kept
	close(c.done)
	p.mu.Unlock()
	if err == nil {
		found.log(p.log)
		if err := guard("closing a session", old.Close); err != nil {
			p.log.Warn().Err(err).Msg("closing the session before the choice")
		}
	}
	p.keepCosts(kept)
}

// adopt plans for the layout and the costs of a variant. There is no request yet.
func (p *pipeline) adopt(found chosen) {
	p.layout = found.layout
	p.batching.Layout = newLayout(found.layout, p.batching.Layout.MaxWidth)
	p.costs.Choice, p.costs.Variant = found.Choice, found.Variant
	if found.Source == "measured" {
		p.kept.Choice = found.Choice
	} else {
		p.kept.Choice.Trials = merged(p.kept.Choice.Trials, found.Trials)
	}
	p.keptCosts()
	p.schedule = schedule.New(p.batching, time.Now())
	p.events = p.schedule
}

// merged returns the trials, replaced or followed by newer ones.
func merged(trials, newer []Trial) []Trial {
	c := Choice{Trials: append([]Trial(nil), trials...)}
	for _, t := range newer {
		if old := c.trial(t.Variant); old != nil {
			*old = t
		} else {
			c.Trials = append(c.Trials, t)
		}
	}
	return c.Trials
}

// shouldWarmUp reports whether the first batch would be the one that compiles
// kernels. Work that waits does that as well.
func (p *pipeline) shouldWarmUp() bool {
	return len(p.warm.Lengths) > 0 && p.device.usable()
}

// warmUp computes a batch whose logits no one needs.
func (p *pipeline) warmUp() {
	start := time.Now()
	session, b := p.device.session, p.warm
	p.warm = mlx.Batch{}
	err := guard("warming up", func() error {
		ticket, err := session.Submit(b)
		if err == nil {
			_, err = session.Collect(ticket, make([]float32, len(b.Lengths)*p.labels))
		}
		return err
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	at := time.Now()
	if err != nil {
		err = fmt.Errorf("engine: the first batch, which warms up the device: %w", err)
		p.log.Warn().Err(err).Msg("warm pass")
	} else {
		p.log.Debug().Dur("took_ms", at.Sub(start)).Msg("warm pass")
	}
	p.noteOutcome(err, at)
}

// chooser returns the chooser of the engine's model.
func (e *Engine) chooser(cfg Config, files weights.Fingerprint, native *mlx.Model, variants []string, shape mlx.ModelConfig) (*chooser, error) {
	check, err := e.checkBatch()
	if err != nil {
		return nil, err
	}
	work, err := e.workBatch(shape)
	if err != nil {
		return nil, err
	}
	limit := trialLimit
	if e.info.Device == CPU {
		limit = cpuTrialLimit
	}
	return &chooser{
		variants: variants, check: check, work: work, labels: shape.Labels,
		tolerance: tolerance(e.info.DType), budget: choiceBudget, limit: limit, log: e.log,
		open: func(variant string) (backend, error) {
			session, err := native.Open(mlx.Options{Threads: cfg.threads(), Variant: variant})
			if err != nil {
				return nil, err // not a nil session in a backend
			}
			return session, nil
		},
		exact: func() ([]float32, error) { return e.exact(cfg, files, check) },
	}, nil
}

// exact computes a batch on the CPU in float32, by our kernels where they can.
func (e *Engine) exact(cfg Config, files weights.Fingerprint, b mlx.Batch) (logits []float32, err error) {
	model, err := openSameWeights(cfg, files)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, model.Close()) }()
	session, err := e.library.Open(graphConfig(model), tensors(model.Tensors), mlx.Options{Device: mlx.CPU, DType: mlx.Float32, Threads: cfg.threads()})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, session.Close()) }()
	ticket, err := session.Submit(b)
	if err != nil {
		return nil, err
	}
	logits = make([]float32, len(b.Lengths)*model.Config.Labels)
	_, err = session.Collect(ticket, logits)
	return logits, err
}

// choose chooses a variant of the model for the pipeline.
func (e *Engine) choose(ctx context.Context, c *chooser, source string) (chosen, error) {
	choice, session, err := c.choose(ctx)
	choice.Source = source
	if err != nil {
		return chosen{Choice: choice}, e.advise(err)
	}
	layout, err := e.layout(session.(*mlx.Session))
	if err != nil {
		return chosen{}, errors.Join(err, session.Close())
	}
	return chosen{choice, session, layout}, nil
}

// advise adds to the error of a choice what to do.
func (e *Engine) advise(err error) error {
	switch {
	case errors.Is(err, context.Canceled) || !errors.Is(err, ErrUnhealthy):
		return err
	case e.info.Device == CPU:
		return fmt.Errorf("%w; unset %s, and report the output of mlxrank doctor", err, VariantEnv)
	case errors.Is(err, errWrong):
		refused, keeping := e.library.RefuseBuild(firstLine(err))
		if keeping != nil {
			e.log.Warn().Err(keeping).Msg("the refused build is not kept")
		}
		if refused && keeping == nil {
			return fmt.Errorf("%w; this build of MLX (%s) is not used on this machine any more: start the program again, and it loads the other one", err, mlx.Newer)
		}
		return fmt.Errorf("%w; use --device cpu, and report the output of mlxrank doctor", err)
	}
	return fmt.Errorf("%w; start the program again, or use --device cpu", err)
}

// Lengths of the pairs that variants are compared by, in two microbatches: short
// rows together, and short rows among long ones. Lengths are multiples of no power
// of two, and just below, at and above some.
var checkLengths = [][]int{{5, 16, 31, 33, 64}, {9, 100, 127, 129, 255, 512}}

// checkBatch returns the batch that variants are compared by: the same pairs of real
// text for every model.
func (e *Engine) checkBatch() (mlx.Batch, error) {
	var b mlx.Batch
	for _, lengths := range checkLengths {
		if err := e.addPairs(&b, lengths); err != nil {
			return b, err
		}
	}
	return b, nil
}

// workBatch returns the batch that variants are timed by: 20 pairs of 128 tokens, and
// fewer for a larger model than MiniLM with 6 layers of 384.
func (e *Engine) workBatch(shape mlx.ModelConfig) (mlx.Batch, error) {
	small := mlx.ModelConfig{Layers: 6, HiddenSize: 384, IntermediateSize: 1536}
	pairs := int(20 * tokenWork(small) / tokenWork(shape))
	lengths := make([]int, min(max(pairs, 4), 20))
	for i := range lengths {
		lengths[i] = 128 - i%4*8
	}
	var b mlx.Batch
	return b, e.addPairs(&b, lengths)
}

// tokenWork returns the multiplications that a token's matmuls take.
func tokenWork(shape mlx.ModelConfig) float64 {
	h, f := float64(shape.HiddenSize), float64(shape.IntermediateSize)
	matmuls := 2.0 // of feed-forward
	if shape.Gated {
		matmuls = 3
	}
	return float64(shape.Layers) * (4*h*h + matmuls*h*f)
}

// addPairs adds a microbatch of pairs of the given lengths, or of the maximum length
// if that is less.
func (e *Engine) addPairs(b *mlx.Batch, lengths []int) error {
	passages := strings.Split(strings.TrimSpace(checkText), "\n")
	for i, length := range lengths {
		length = min(length, e.info.MaxLength)
		n := len(b.Lengths)
		query, err := e.tokenizer.encodeUntil(context.Background(), checkQueries[n%len(checkQueries)], length)
		if err != nil {
			return fmt.Errorf("engine: tokenising the pairs that variants are compared by: %w", err)
		}
		var document encoded
		for k := 0; document.total < length; k++ { // passages around the i-th, until they are enough
			part, err := e.tokenizer.encodeUntil(context.Background(), passages[(n+k)%len(passages)], length)
			if err == nil && part.total == 0 {
				err = errors.New("a passage has no tokens")
			}
			if err != nil {
				return fmt.Errorf("engine: tokenising the pairs that variants are compared by: %w", err)
			}
			document = encoded{ids: append(document.ids, part.ids...), total: document.total + len(part.ids)}
		}
		tokens := e.tokenizer.frame.join(query, document, max(length, e.tokenizer.frame.special), TruncateRight)
		if i == 0 {
			b.Microbatches = append(b.Microbatches, 0)
		}
		b.Microbatches[len(b.Microbatches)-1]++
		b.IDs, b.TypeIDs = append(b.IDs, tokens.IDs...), append(b.TypeIDs, tokens.TypeIDs...)
		b.Lengths = append(b.Lengths, int32(len(tokens.IDs)))
	}
	return nil
}

// The first passage answers the first query and the third passage the second query,
// so that the logits of a reranker differ.
var checkQueries = []string{
	"how do tides depend on the moon",
	"library for parsing command line flags",
	"how do tides depend on the moon",
}

const checkText = `
Tides are caused by the pull of the moon and the sun on the oceans. Because the moon is near, its pull differs more from one side of the earth to the other, and so the height of a tide follows its phase.
A sourdough starter needs flour, water and a week of patience. Feed it once a day, keep it warm, and throw half of it away before each feeding, or it grows beyond its jar and smells of vinegar.
This package parses flags and arguments of the command line, with subcommands, environment variables and generated help. It has no dependencies and supports Linux, macOS and Windows.
The museum is open from ten to five, except on Mondays and on the first of January. Children below twelve enter free if an adult is with them; the last tour of the tower begins at four.
In 1854 John Snow marked each case of cholera on a map of London. The cases lay around one pump in Broad Street, and when its handle was removed the epidemic in that quarter ended.
To replace the battery, loosen the four screws at the back, lift the cover, and pull the black tab upwards. Do not use a sharp tool: a cell that is pierced can burn.
The committee postponed its vote on the new bridge, since neither the costs (about 38.5 million euros) nor the effect on the river's birds had been examined by independent experts.
Unsorted lists are searched in linear time. If a list is sorted, each comparison halves what is left, so that a million entries take twenty comparisons at most.
`
