package mlx

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

// testDeviceEnv is the name of the environment variable for the device of the
// tests that any device passes: cpu, or gpu, where they fail without one. make
// verify-mac sets it.
const testDeviceEnv = "MLXRANK_TEST_DEVICE"

func testDevice() Device {
	if device := os.Getenv(testDeviceEnv); device != "" {
		return Device(device)
	}
	return CPU
}

var smallConfig = bert(ModelConfig{
	VocabSize: 101, HiddenSize: 32, Layers: 2, Heads: 4, IntermediateSize: 96, MaxPositions: 64,
	TypeVocabSize: 2, Labels: 1, LayerNormEps: 1e-12, Activation: GELU,
})

// bert gives cfg the embeddings, the pooling and the head of BertForSequenceClassification.
func bert(cfg ModelConfig) ModelConfig {
	cfg.EmbeddingSize, cfg.Pooling = cfg.HiddenSize, PoolCLS
	cfg.Head = []HeadStep{
		{Name: "pooler.dense", Out: cfg.HiddenSize, Activation: Tanh},
		{Name: "classifier", Out: cfg.Labels, Activation: Identity},
	}
	return cfg
}

// randomTensors returns all the weights of cfg.
func randomTensors(cfg ModelConfig) []Tensor {
	r := rand.New(rand.NewPCG(1, 2))
	var tensors []Tensor
	add := func(name string, offset, scale float64, shape ...int) {
		n := 1
		for _, d := range shape {
			n *= d
		}
		data := make([]byte, 0, 4*n)
		for range n {
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(float32(offset+scale*(2*r.Float64()-1))))
		}
		tensors = append(tensors, Tensor{Name: name, DType: Float32, Shape: shape, Data: data})
	}
	linear := func(name string, out, in int) {
		add(name+".weight", 0, math.Sqrt(3/float64(in)), out, in)
		add(name+".bias", 0, 0.1, out)
	}
	norm := func(name string) {
		add(name+".weight", 1, 0.2, cfg.HiddenSize)
		add(name+".bias", 0, 0.2, cfg.HiddenSize)
	}
	add("embeddings.word_embeddings.weight", 0, 1, cfg.VocabSize, cfg.HiddenSize)
	add("embeddings.position_embeddings.weight", 0, 1, cfg.MaxPositions, cfg.HiddenSize)
	add("embeddings.token_type_embeddings.weight", 0, 1, cfg.TypeVocabSize, cfg.HiddenSize)
	norm("embeddings.LayerNorm")
	for i := range cfg.Layers {
		at := fmt.Sprintf("encoder.layer.%d.", i)
		for _, name := range []string{"attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"} {
			linear(at+name, cfg.HiddenSize, cfg.HiddenSize)
		}
		norm(at + "attention.output.LayerNorm")
		linear(at+"intermediate.dense", cfg.IntermediateSize, cfg.HiddenSize)
		linear(at+"output.dense", cfg.HiddenSize, cfg.IntermediateSize)
		norm(at + "output.LayerNorm")
	}
	linear("pooler.dense", cfg.HiddenSize, cfg.HiddenSize)
	linear("classifier", cfg.Labels, cfg.HiddenSize)
	return tensors
}

func openSession(t testing.TB, cfg ModelConfig, opts Options) *Session {
	t.Helper()
	s, err := library(t).Open(cfg, randomTensors(cfg), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// randomBatch returns pairs of 1 to 64 tokens.
func randomBatch(r *rand.Rand, pairs int) Batch {
	var b Batch
	for range pairs {
		length := 1 + r.IntN(64)
		b.Lengths = append(b.Lengths, int32(length))
		for i := range length {
			b.IDs = append(b.IDs, int32(r.IntN(101)))
			b.TypeIDs = append(b.TypeIDs, int32(2*i/length))
		}
	}
	return cut(b)
}

// cut puts the pairs into microbatches of at most 150 tokens.
func cut(b Batch) Batch {
	b.Microbatches = nil
	tokens := 150
	for _, n := range b.Lengths {
		if tokens += int(n); tokens > 150 {
			b.Microbatches, tokens = append(b.Microbatches, 0), int(n)
		}
		b.Microbatches[len(b.Microbatches)-1]++
	}
	return b
}

// pick returns the batch of the pairs at the given indexes.
func pick(b Batch, indexes ...int) Batch {
	var out Batch
	for _, index := range indexes {
		at := 0
		for _, n := range b.Lengths[:index] {
			at += int(n)
		}
		n := int(b.Lengths[index])
		out.Lengths = append(out.Lengths, int32(n))
		out.IDs = append(out.IDs, b.IDs[at:at+n]...)
		out.TypeIDs = append(out.TypeIDs, b.TypeIDs[at:at+n]...)
	}
	return cut(out)
}

func score(t testing.TB, s *Session, b Batch) []float32 {
	t.Helper()
	ticket, err := s.Submit(b)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]float32, len(b.Lengths)*s.labels)
	stats, err := s.Collect(ticket, out)
	if err != nil {
		t.Fatal(err)
	}
	if stats.Tokens != len(b.IDs) || stats.ComputedTokens < stats.Tokens || len(stats.Microbatches) != len(b.Microbatches) || stats.ExecuteNs <= 0 {
		t.Errorf("stats %+v of %d tokens", stats, len(b.IDs))
	}
	return out
}

func near(t *testing.T, what string, got, want float32) {
	t.Helper()
	tolerance := 1e-5
	if testDevice() == GPU { // its kernels depend on the shape
		tolerance = 1e-4
	}
	if math.Abs(float64(got-want)) > tolerance {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestPairScoresTheSameInAnyCompany(t *testing.T) {
	for _, threads := range []int{1, 2, 3} {
		s := openSession(t, smallConfig, Options{Device: CPU, Threads: threads})
		b := randomBatch(rand.New(rand.NewPCG(3, 4)), 40)
		together := score(t, s, b)
		for i := range together {
			near(t, fmt.Sprintf("%d threads: pair %d alone", threads, i), score(t, s, pick(b, i))[0], together[i])
		}
		order := rand.New(rand.NewPCG(5, 6)).Perm(len(together))
		shuffled := score(t, s, pick(b, order...))
		for at, i := range order {
			near(t, fmt.Sprintf("%d threads: pair %d shuffled", threads, i), shuffled[at], together[i])
		}
	}
}

func TestSeveralLabels(t *testing.T) {
	cfg := smallConfig
	cfg.Labels = 3
	cfg = bert(cfg)
	s := openSession(t, cfg, Options{Device: testDevice()})
	b := randomBatch(rand.New(rand.NewPCG(7, 8)), 10)
	together := score(t, s, b)
	for i := range b.Lengths {
		alone := score(t, s, pick(b, i))
		for k := range 3 {
			near(t, fmt.Sprintf("pair %d label %d", i, k), alone[k], together[3*i+k])
		}
	}
}

func TestTwoTicketsInFlight(t *testing.T) {
	s := openSession(t, smallConfig, Options{Device: testDevice()})
	b := randomBatch(rand.New(rand.NewPCG(9, 10)), 12)
	want := score(t, s, b)
	a, err := s.Submit(pick(b, 0, 1, 2, 3))
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Submit(pick(b, 4, 5))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Submit(b); !errors.Is(err, ErrBusy) {
		t.Errorf("third ticket: %v, want ErrBusy", err)
	}
	out := make([]float32, 4)
	if _, err := s.Collect(c, out); err == nil || !strings.Contains(err.Error(), "want 2") {
		t.Errorf("wrong room: %v", err)
	}
	for _, part := range []struct {
		ticket Ticket
		from   int
		out    []float32
	}{{c, 4, out[:2]}, {a, 0, out}} {
		if _, err := s.Collect(part.ticket, part.out); err != nil {
			t.Fatal(err)
		}
		for i, got := range part.out {
			near(t, fmt.Sprintf("pair %d", part.from+i), got, want[part.from+i])
		}
	}
	if _, err := s.Collect(a, out); err == nil || !strings.Contains(err.Error(), "not in flight") {
		t.Errorf("collected twice: %v", err)
	}
}

// unfusedAsked reports whether the environment asks for the unfused graph.
func unfusedAsked() bool {
	return cmp.Or(os.Getenv("MLXRANK_UNFUSED_GRAPH"), os.Getenv("MLXRANK_PLAIN_GRAPH")) == "1"
}

// On Linux our kernels compute, with an instruction set of this architecture,
// unless the environment asks for the unfused graph.
func TestGraphIsTheOneAskedFor(t *testing.T) {
	want := map[string][]string{"amd64": {"AVX", "SSE", "SSSE"}, "arm64": {"NEON"}}[runtime.GOARCH]
	if unfusedAsked() || runtime.GOOS == "darwin" {
		want = []string{"MLX"}
	}
	layout, err := openSession(t, smallConfig, Options{Device: CPU}).Layout()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(want, func(name string) bool { return strings.HasPrefix(layout.Kernels, name) }) {
		t.Errorf("computed by %q, want one of %q", layout.Kernels, want)
	}
	t.Logf("computed by %s", layout.Kernels)
}

func TestMicrobatchesAreTheCallers(t *testing.T) {
	s := openSession(t, smallConfig, Options{Device: CPU, Threads: 2})
	layout, err := s.Layout()
	if err != nil {
		t.Fatal(err)
	}
	if layout.Workers != 2 || layout.Grid != 1 || layout.MicrobatchTokens < 1 || layout.Kernels == "" {
		t.Errorf("layout %+v, want two workers", layout)
	}
	b := randomBatch(rand.New(rand.NewPCG(21, 22)), 11)
	want := score(t, s, b)
	b.Microbatches = []int32{3, 1, 7}
	ticket, err := s.Submit(b)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]float32, 11)
	if _, err := s.Collect(ticket, out[:10]); err == nil {
		t.Error("too little room was taken")
	}
	stats, err := s.Collect(ticket, out)
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		near(t, fmt.Sprintf("pair %d", i), out[i], want[i])
	}
	computed, from := 0, 0
	for i, m := range stats.Microbatches {
		pairs := int(b.Microbatches[i])
		width, tokens := 0, 0
		for _, n := range b.Lengths[from : from+pairs] {
			width, tokens = max(width, int(n)), tokens+int(n)
		}
		from += pairs
		computed += m.ComputedTokens
		rows := pairs * width
		if layout.Unpadded {
			rows = tokens
		}
		if m.Pairs != pairs || m.Tokens != tokens || m.ComputedTokens != rows || m.Worker < 0 || m.Worker > 1 {
			t.Errorf("microbatch %d: %+v, want %d pairs, %d tokens, %d computed", i, m, pairs, tokens, rows)
		}
		if m.StartNs <= 0 || m.FinishNs <= m.StartNs || m.FinishNs > stats.ExecuteNs {
			t.Errorf("microbatch %d of a batch of %d ns: %+v", i, stats.ExecuteNs, m)
		}
	}
	if len(stats.Microbatches) != 3 || computed != stats.ComputedTokens {
		t.Errorf("stats %+v", stats)
	}
	b.Microbatches = []int32{3, 1}
	if _, err := s.Submit(b); err == nil || !strings.Contains(err.Error(), "add up to 4 pairs, want 11") {
		t.Errorf("microbatches of too few pairs: %v", err)
	}
}

// A batch is submitted while another goroutine waits for the previous one.
func TestSubmitWhileCollecting(t *testing.T) {
	s := openSession(t, smallConfig, Options{Device: testDevice()})
	b := randomBatch(rand.New(rand.NewPCG(23, 24)), 24)
	want := score(t, s, b)
	tickets := make(chan Ticket, 1)
	collected := make(chan error)
	go func() {
		defer close(collected)
		out := make([]float32, len(want))
		for ticket := range tickets {
			if _, err := s.Collect(ticket, out); err != nil {
				collected <- err
				return
			}
			for i := range want {
				if math.Abs(float64(out[i]-want[i])) > 1e-5 {
					collected <- fmt.Errorf("pair %d: %v, want %v", i, out[i], want[i])
				}
			}
		}
	}()
	for submitted := 0; submitted < 50; {
		ticket, err := s.Submit(b)
		if errors.Is(err, ErrBusy) {
			runtime.Gosched()
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		tickets <- ticket
		submitted++
	}
	close(tickets)
	for err := range collected {
		t.Error(err)
	}
}

func TestHalfPrecisionIsNearAndDifferent(t *testing.T) {
	b := randomBatch(rand.New(rand.NewPCG(11, 12)), 16)
	want := score(t, openSession(t, smallConfig, Options{Device: CPU}), b)
	for dtype, tolerance := range map[DType]float64{Float16: 0.02, BFloat16: 0.15} {
		s := openSession(t, smallConfig, Options{Device: CPU, DType: dtype})
		if s.DType() != dtype || s.Device() != CPU {
			t.Errorf("runs %s on %s", s.DType(), s.Device())
		}
		worst := 0.0
		for i, got := range score(t, s, b) {
			worst = max(worst, math.Abs(float64(got-want[i])))
		}
		if worst == 0 || worst > tolerance {
			t.Errorf("%s differs by %g, want over 0 and at most %g", dtype, worst, tolerance)
		}
	}
}

func TestOpenRefusals(t *testing.T) {
	l := library(t)
	tensors := randomTensors(smallConfig)
	change := func(f func(t *Tensor)) []Tensor {
		c := append([]Tensor(nil), tensors...)
		f(&c[0])
		return c
	}
	badHeads := smallConfig
	badHeads.Heads = 5
	head := func(steps ...HeadStep) ModelConfig {
		c := smallConfig
		c.Head = steps
		return c
	}
	for _, test := range []struct {
		name    string
		cfg     ModelConfig
		tensors []Tensor
		opts    Options
		want    string
	}{
		{"missing tensor", smallConfig, tensors[1:], Options{}, "embeddings.word_embeddings.weight [101, 32] is missing"},
		{"wrong shape", smallConfig, change(func(t *Tensor) { t.Shape = []int{32, 101} }), Options{}, "shape [32, 101], want [101, 32]"},
		{"short data", smallConfig, change(func(t *Tensor) { t.Data = t.Data[4:] }), Options{}, "12924 bytes, want 12928"},
		{"rank", smallConfig, change(func(t *Tensor) { t.Shape = []int{1, 101, 32} }), Options{}, "3 dimensions"},
		{"tensor dtype", smallConfig, change(func(t *Tensor) { t.DType = "int8" }), Options{}, `dtype "int8"`},
		{"dtype", smallConfig, tensors, Options{DType: "int4"}, `dtype "int4"`},
		{"device", smallConfig, tensors, Options{Device: "tpu"}, `device "tpu"`},
		{"heads", badHeads, tensors, Options{}, "not a multiple of heads"},
		{"no head", head(), tensors, Options{}, "head_steps is 0, want 1 to 16"},
		{"long head", head(make([]HeadStep, 17)...), tensors, Options{}, "the head has 17 steps, at most 16 are possible"},
		{"long name", head(HeadStep{Name: strings.Repeat("x", 96), Out: 1, Activation: Identity}), tensors, Options{}, "has 96 bytes, at most 95 are possible"},
		{"activation of the head", head(HeadStep{Name: "classifier", Out: 1, Activation: "swish"}), tensors, Options{}, `unknown activation "swish", want one of [gelu`},
		{"outputs of the head", head(HeadStep{Name: "classifier", Out: 2, Activation: Identity}), tensors, Options{}, "the head's last step has 2 outputs, want labels 1"},
		{"threads", smallConfig, tensors, Options{Device: CPU, Threads: -1}, "threads is -1, want 0 to 1024"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, err := l.Open(test.cfg, test.tensors, test.opts)
			if err == nil {
				t.Error(s.Close())
				t.Fatal("opened")
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %q lacks %q", err, test.want)
			}
		})
	}
	if l.Info().GPUs == 0 {
		if _, err := l.Open(smallConfig, tensors, Options{Device: GPU}); !errors.Is(err, ErrNoDevice) {
			t.Errorf("GPU: %v, want ErrNoDevice", err)
		}
	}
}

// Two sessions of one model share its weights, and outlive its handle.
func TestModelVariants(t *testing.T) {
	t.Setenv("MLXRANK_UNFUSED_GRAPH", "1")
	b := randomBatch(rand.New(rand.NewPCG(13, 14)), 8)
	m, err := library(t).OpenModel(smallConfig, randomTensors(smallConfig), Options{Device: testDevice()})
	if err != nil {
		t.Fatal(err)
	}
	names, err := m.Variants()
	if err != nil || len(names) == 0 || names[0] != "reference" {
		t.Fatalf("variants %q, error %v, want reference first", names, err)
	}
	var want []float32
	for _, name := range append([]string{""}, names...) {
		s, err := m.Open(Options{Threads: 1, Variant: name})
		if err != nil {
			t.Fatal(err)
		}
		layout, err := s.Layout()
		if err != nil || layout.Variant != cmp.Or(name, names[0]) {
			t.Errorf("variant %q, error %v, want %q", layout.Variant, err, name)
		}
		got := score(t, s, b)
		if want == nil {
			want = got
		}
		for i := range got {
			if d := math.Abs(float64(got[i] - want[i])); !(d < 1e-4) && s.DType() == Float32 {
				t.Errorf("%s: pair %d is %g, want %g", name, i, got[i], want[i])
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := m.Open(Options{Variant: "fast"}); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "want one of: "+strings.Join(names, ", ")) {
		t.Errorf("unknown variant: %v, want ErrInvalid and the names %q", err, names)
	}
	if err := errors.Join(m.Close(), m.Close()); err != nil {
		t.Error(err)
	}
	if _, err := m.Variants(); !errors.Is(err, ErrInvalid) {
		t.Errorf("a closed model's variants: %v, want ErrInvalid", err)
	}
}

func TestSubmitRefusals(t *testing.T) {
	s := openSession(t, smallConfig, Options{Device: testDevice()})
	for name, test := range map[string]struct {
		batch Batch
		want  string
	}{
		"empty":    {Batch{}, "no pairs"},
		"type ids": {Batch{IDs: []int32{1, 2}, TypeIDs: []int32{0}, Lengths: []int32{2}}, "2 ids and 1 token type ids"},
		"id":       {Batch{IDs: []int32{101}, TypeIDs: []int32{0}, Lengths: []int32{1}}, "ids[0] is 101"},
		"type id":  {Batch{IDs: []int32{1}, TypeIDs: []int32{-1}, Lengths: []int32{1}}, "type_ids[0] is -1"},
		"length":   {Batch{IDs: make([]int32, 65), TypeIDs: make([]int32, 65), Lengths: []int32{65}}, "65 tokens"},
		"sum":      {Batch{IDs: []int32{1, 2, 3}, TypeIDs: []int32{0, 0, 0}, Lengths: []int32{2}}, "add up to 2 tokens, want 3"},
	} {
		if _, err := s.Submit(test.batch); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v lacks %q", name, err, test.want)
		}
	}
}

func TestManyCallersOneSession(t *testing.T) {
	s := openSession(t, smallConfig, Options{Device: testDevice()})
	b := randomBatch(rand.New(rand.NewPCG(13, 14)), 6)
	want := score(t, s, b)
	var wg sync.WaitGroup
	var slots = make(chan struct{}, 2) // tickets
	for range 32 {
		wg.Go(func() {
			for range 5 {
				slots <- struct{}{}
				ticket, err := s.Submit(b)
				out := make([]float32, len(want))
				if err == nil {
					runtime.Gosched()
					_, err = s.Collect(ticket, out)
				}
				<-slots
				if err != nil {
					t.Error(err)
					return
				}
				for i := range want {
					near(t, "concurrent", out[i], want[i])
				}
			}
		})
	}
	wg.Wait()
}

func TestCloseEndsTheSession(t *testing.T) {
	l := library(t)
	before, err := l.Memory()
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Open(smallConfig, randomTensors(smallConfig), Options{Device: testDevice()})
	if err != nil {
		t.Fatal(err)
	}
	b := randomBatch(rand.New(rand.NewPCG(15, 16)), 4)
	if _, err := s.Submit(b); err != nil { // never collected
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if _, err := s.Submit(b); !errors.Is(err, ErrClosed) {
		t.Errorf("Submit after Close: %v, want ErrClosed", err)
	}
	after, err := l.Memory()
	if err != nil || after.Models != before.Models || after.Sessions != before.Sessions {
		t.Errorf("open before %+v, after %+v, %v", before, after, err)
	}
}

func BenchmarkForward(b *testing.B) {
	cfg := smallConfig
	cfg.HiddenSize, cfg.Heads, cfg.Layers, cfg.IntermediateSize = 384, 12, 6, 1536
	cfg = bert(cfg)
	s := openSession(b, cfg, Options{})
	batch := randomBatch(rand.New(rand.NewPCG(17, 18)), 32)
	for b.Loop() {
		score(b, s, batch)
	}
	b.ReportMetric(32*float64(b.N)/b.Elapsed().Seconds(), "pairs/s")
}
