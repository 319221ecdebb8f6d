package engine

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mlxrank/mlxrank/internal/system"
	"github.com/mlxrank/mlxrank/mlx"
	"github.com/mlxrank/mlxrank/weights"
)

// A Cache keeps results of pairs, for Config.Cache. Package cache has one. Its methods
// are called from many goroutines.
//
// A key is a hash of everything that a pair's logits depend on: the contents of the
// model, the number format, the device, the libraries, the program, the maximum length,
// the truncation, the query and the document. A value is a short string.
type Cache interface {
	Get(keys [][32]byte, values []string) // sets each value, "" for a key without one
	Put(keys [][32]byte, values []string)
	Lasts() bool // entries outlive the process
	Usage() CacheUsage
}

// CacheUsage describes what a cache holds. Bytes and Limit are of the memory.
// DiskBytes is the size of the store on disk, as of the last write.
type CacheUsage = struct {
	Entries, Bytes, Limit, DiskBytes int64
}

// CacheInfo describes Config.Cache.
type CacheInfo struct {
	LimitBytes int64 // of the memory
	Disk       bool  // entries outlive the process
}

// A caching looks up pairs before they are computed, and keeps what was computed.
type caching struct {
	cache    Cache
	identity func() (string, error) // of the model, the libraries and the machine
	flights  flights

	once  sync.Once
	class [sha256.Size]byte // of all keys
	works bool
}

// useCache prepares Config.Cache. An engine with settings for benchmarks has none.
func (e *Engine) useCache(cfg Config, model *weights.Model) error {
	if cfg.Cache == nil || cfg.Lab != nil {
		return nil
	}
	settings, err := json.Marshal(struct {
		Graph     mlx.ModelConfig
		Tokenizer weights.Tokenizer
		Prompt    string
		DType     DType
		Device    Device
		Matmuls   []string
		MaxLength int
	}{graphConfig(model), model.Tokenizer, model.Prompt, e.info.DType, e.info.Device, e.info.Matmuls, e.info.MaxLength})
	if err != nil {
		return fmt.Errorf("engine: describing the model for the cache: %w", err)
	}
	e.info.Cache = &CacheInfo{cfg.Cache.Usage().Limit, cfg.Cache.Lasts()}
	e.caching = &caching{cache: cfg.Cache, identity: sync.OnceValues(func() (string, error) {
		contents := describeFiles(model.Files)
		if cfg.Cache.Lasts() {
			var err error
			if contents, err = model.ContentHash(); err != nil {
				return "", fmt.Errorf("engine: hashing the model for the cache: %w", err)
			}
		}
		return strings.Join([]string{Version, contents, string(settings), e.numericClass()}, "\x00"), nil
	})}
	go e.caching.identity() //nolint:errcheck // ready has the error
	return nil
}

func describeFiles(files weights.Fingerprint) string {
	var lines []string
	for path, id := range files {
		lines = append(lines, path+" "+id)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// numericClass names everything besides the model and its graph that can change the
// bits of a logit: the program and the libraries, by their files, the processor, the
// system on macOS, which has the BLAS and Metal's compiler, and the variables that BLAS
// and MLX read.
func (e *Engine) numericClass() string {
	l := e.info.Library
	list := []string{
		fmt.Sprintf("ABI %d, MLX %s, mlx-c %s, BLAS %s, build %s, NAX %t", l.ABI, l.MLX, l.MLXC, l.BLAS, l.Build, l.NAX),
		e.info.DeviceName, e.architecture, system.Processor(),
	}
	program, err := os.Executable()
	if err != nil {
		program = err.Error()
	}
	for _, path := range append([]string{program, l.Path, l.MLXPath, l.Metallib}, system.MappedLibraries()...) {
		if info, err := os.Stat(path); err == nil {
			list = append(list, fmt.Sprintf("%s %d %d", info.Name(), info.Size(), info.ModTime().UnixNano()))
		}
	}
	for _, variable := range os.Environ() {
		for _, prefix := range []string{"MLX_", "OPENBLAS_", "OMP_", "GOTO_"} {
			if strings.HasPrefix(variable, prefix) {
				list = append(list, variable)
			}
		}
	}
	slices.Sort(list)
	return strings.Join(list, "\n")
}

// ready makes the class of keys. The variant of the graph must be chosen. It reports
// whether the cache can be used.
func (c *caching) ready(e *Engine) bool {
	c.once.Do(func() {
		identity, err := c.identity()
		if err != nil {
			e.log.Warn().Err(err).Msg("the cache is not used")
			return
		}
		info := e.Info()
		c.class = sha256.Sum256(fmt.Appendf(nil, "%s\x00%s %s", identity, info.Kernels, info.Choice.Variant))
		c.works = true
	})
	return c.works
}

// keys returns the key of each pair. Pairs that fit have the same logits whatever the
// truncation: only the side of a cut counts.
func (c *caching) keys(pairs []Pair, opts ScoreOptions) [][32]byte {
	keys := make([][32]byte, len(pairs))
	side := byte('r')
	if opts.Truncation == TruncateLeft {
		side = 'l'
	}
	buffer := make([]byte, 0, 4<<10)
	var query string
	var prefix [sha256.Size]byte // a hash of all but the document
	for i, pair := range pairs {
		if i == 0 || pair.Query != query {
			query = pair.Query
			buffer = append(buffer[:0], c.class[:]...)
			buffer = append(buffer, side)
			buffer = binary.LittleEndian.AppendUint64(buffer, uint64(opts.DocumentTokens))
			buffer = append(buffer, query...)
			prefix = sha256.Sum256(buffer)
		}
		buffer = append(buffer[:0], prefix[:]...)
		buffer = append(buffer, pair.Document...)
		keys[i] = sha256.Sum256(buffer)
	}
	return keys
}

// A cached is the value of a pair: its tokens, whether it was truncated, and its logits.
type cached struct {
	tokens    int
	truncated bool
	logits    []float32
}

const valueHeader = 4 // bytes before the logits

func (v cached) encode() string {
	header := uint32(v.tokens) << 1
	if v.truncated {
		header |= 1
	}
	data := binary.LittleEndian.AppendUint32(make([]byte, 0, valueHeader+4*len(v.logits)), header)
	for _, logit := range v.logits {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(logit))
	}
	return string(data)
}

// decodeInto writes the logits of a value, and returns the rest of it. It reports
// whether the value is one of a model with so many labels.
func decodeInto(logits []float32, value string) (v cached, ok bool) {
	if len(value) != valueHeader+4*len(logits) {
		return v, false
	}
	word := func(i int) uint32 {
		return uint32(value[i]) | uint32(value[i+1])<<8 | uint32(value[i+2])<<16 | uint32(value[i+3])<<24
	}
	header := word(0)
	v = cached{tokens: int(header >> 1), truncated: header&1 != 0, logits: logits}
	for i := range logits {
		logits[i] = math.Float32frombits(word(valueHeader + 4*i))
		if !finite(logits[i]) {
			return v, false
		}
	}
	return v, true
}

// A lookup is a request whose pairs may be known already. whole has all its distinct
// pairs, as if they were computed.
type lookup struct {
	*caching
	p     *pipeline
	whole *request
	keys  [][32]byte
}

// scoreCached scores a request with the help of the cache.
func (e *Engine) scoreCached(ctx context.Context, r *request, start time.Time) (*Result, error) {
	c, p := e.caching, e.pipeline
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := p.waitForChoice(ctx, false); err != nil {
		return nil, err
	}
	if err := p.checkOpen(); err != nil {
		return nil, err
	}
	if !c.ready(e) {
		return e.score(ctx, r, start)
	}
	p.resolveSide(&r.options)
	r.Whole = r.options.Truncation == TruncateNot
	r.watch = startStopwatch(start)
	r.Priority = r.options.Priority.level()
	r.inputs, r.logits = make([]Tokens, len(r.pairs)), make([]float32, len(r.pairs)*p.labels)
	l := &lookup{caching: c, p: p, whole: r, keys: c.keys(r.pairs, r.options)}
	admitted, err := l.run(ctx)
	if !admitted {
		return nil, err
	}
	r.watch.finish(time.Now())
	var result *Result
	if err == nil {
		if result, err = e.result(r); err == nil {
			result.Timings = r.watch.timings()
		}
	}
	p.record(r, result, err)
	return result, err
}

// run looks up the pairs and computes those that are not found. It returns false for
// a request that was refused.
func (l *lookup) run(ctx context.Context) (admitted bool, err error) {
	all := make([]int, len(l.keys))
	for i := range all {
		all[i] = i
	}
	finished := l.flights.finished.Load()
	missing := l.find(all)
	if len(missing) > 0 && l.flights.finished.Load() != finished {
		missing = l.find(missing) // a call may have computed them since
	}
	if len(missing) == 0 {
		return true, nil
	}
	deadline, _ := ctx.Deadline()
	c := newCall(deadline, l.whole.Priority)
	own, followed := l.flights.join(c, l, missing)
	defer l.unfollow(followed)
	if admitted, err := l.compute(ctx, c, own); err != nil {
		return admitted, err
	}
	waiting := time.Now()
	var failed []int
	for _, f := range followed {
		select {
		case <-f.call.done:
		case <-ctx.Done():
			return true, ctx.Err()
		}
		if f.call.values == nil || !l.fill(f.pair, f.call.values[f.index]) {
			failed = append(failed, f.pair)
		}
	}
	l.whole.watch.spent[queueWait] += time.Since(waiting)
	return l.compute(ctx, newCall(deadline, l.whole.Priority), failed)
}

// find looks up pairs, by index, and returns those that are not in the cache.
func (l *lookup) find(pairs []int) (missing []int) {
	keys, values := l.keys, make([]string, len(pairs))
	if len(pairs) < len(keys) {
		keys = l.keysOf(pairs)
	}
	l.cache.Get(keys, values)
	for i, pair := range pairs {
		if values[i] == "" || !l.fill(pair, values[i]) {
			missing = append(missing, pair)
		}
	}
	return missing
}

func (l *lookup) keysOf(pairs []int) [][32]byte {
	keys := make([][32]byte, len(pairs))
	for i, pair := range pairs {
		keys[i] = l.keys[pair]
	}
	return keys
}

// fill gives a pair the logits of a value. It reports whether they answer the request:
// one that allows no truncation must be refused, as without a cache.
func (l *lookup) fill(pair int, value string) bool {
	r := l.whole
	v, ok := decodeInto(r.logits[pair*l.p.labels:(pair+1)*l.p.labels], value)
	if !ok || v.truncated && r.Whole {
		return false
	}
	r.hits++
	r.cachedTokens += v.tokens
	r.inputs[pair].Truncated = v.truncated
	if v.truncated {
		r.truncated++
	}
	return true
}

// compute computes pairs, by index, and keeps them. It returns false for a request
// that was refused.
func (l *lookup) compute(ctx context.Context, c *call, pairs []int) (admitted bool, err error) {
	if len(pairs) == 0 {
		return true, nil
	}
	r := l.part(pairs)
	c.request = r
	r.abandon = func() bool { return l.abandon(c, pairs) }
	err = l.p.run(ctx, r)
	if r.done == nil {
		l.flights.finish(c, nil)
		return false, err
	}
	if err != nil {
		if !r.abandoned {
			l.flights.finish(c, nil)
		}
		return true, err
	}
	l.keep(c, pairs)
	whole := l.whole
	labels := l.p.labels
	for i, pair := range pairs {
		copy(whole.logits[pair*labels:(pair+1)*labels], r.logits[i*labels:])
		if r.isScored(i) { // a partial request may end while others are tokenised
			whole.inputs[pair].Truncated = r.inputs[i].Truncated
		}
	}
	whole.misses += len(pairs)
	whole.left += r.left
	whole.skipped += r.dropped()
	whole.truncated += r.truncated
	whole.tokens += r.tokens
	whole.computed += r.computed
	whole.batches += r.batches
	for s := range whole.watch.spent {
		if stage(s) != other {
			whole.watch.spent[s] += r.watch.spent[s]
		}
	}
	return true, nil
}

// part returns a request of some pairs of the whole one. Its errors name pairs by their
// index in the whole one.
func (l *lookup) part(pairs []int) *request {
	whole := l.whole
	r := &request{options: whole.options}
	if progress, known := whole.options.Progress, len(whole.pairs)-len(pairs); progress != nil {
		r.options.Progress = func(done, _ int) { progress(known+done, len(whole.pairs)) }
	}
	if len(pairs) == len(whole.pairs) {
		r.pairs, r.indexes = whole.pairs, whole.indexes
		return r
	}
	r.pairs = make([]Pair, len(pairs))
	at := make([]int, len(whole.pairs)) // of a pair in the part, -1 if it is not there
	for i := range at {
		at[i] = -1
	}
	for i, pair := range pairs {
		r.pairs[i], at[pair] = whole.pairs[pair], i
	}
	r.indexes = make([]int, whole.givenPairs())
	for i := range r.indexes {
		r.indexes[i] = at[whole.distinct(i)]
	}
	return r
}

// keep puts the pairs of a call that has succeeded into the cache, and passes them to
// the calls that follow it.
func (l *lookup) keep(c *call, pairs []int) {
	r, labels := c.request, l.p.labels
	values := make([]string, len(pairs))
	var keys [][32]byte
	var kept []string
	for i, pair := range pairs {
		logits := r.logits[i*labels : (i+1)*labels]
		if slices.ContainsFunc(logits, func(x float32) bool { return !finite(x) }) {
			continue
		}
		values[i] = cached{r.Length(i), r.inputs[i].Truncated, logits}.encode()
		keys, kept = append(keys, l.keys[pair]), append(kept, values[i])
	}
	l.cache.Put(keys, kept)
	l.flights.finish(c, values)
}
