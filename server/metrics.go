package server

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/internal/telemetry"
)

// timeBuckets cover a pair in under a millisecond on a GPU and a thousand pairs in
// seconds on a CPU.
var timeBuckets = []float64{
	50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 100e-3, 200e-3, 500e-3, 1, 2, 5, 10, 30,
}

var pairBuckets = []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024}

// httpMetrics are updated with every request. All other metrics are read from the
// engine at a scrape. The label model is "" for requests that asked no model, so that it
// never has a client's word.
type httpMetrics struct {
	requests *prometheus.CounterVec
	refused  *prometheus.CounterVec
	duration *prometheus.HistogramVec
	inFlight prometheus.Gauge
	byKey    *prometheus.CounterVec
}

func newHTTPMetrics() *httpMetrics {
	return &httpMetrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mlxrank_http_requests_total", Help: "HTTP requests answered.",
		}, []string{"route", "method", "code", "model"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mlxrank_http_failures_total", Help: "HTTP requests answered with an error, by its type.",
		}, []string{"route", "type", "model"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "mlxrank_http_request_duration_seconds", Help: "Time from a request's headers to its answer.", Buckets: timeBuckets,
		}, []string{"route", "model"}),
		byKey: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mlxrank_key_requests_total", Help: "HTTP requests answered, by the name of the key.",
		}, []string{"key", "code"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "mlxrank_http_requests_in_flight", Help: "HTTP requests being answered.",
		}),
	}
}

func (m *httpMetrics) observe(e *exchange) {
	route, model := e.route.label(), ""
	if e.model != nil {
		model = e.model.name
	}
	m.requests.WithLabelValues(route, method(e.request.Method), strconv.Itoa(e.answer.status), model).Inc()
	m.duration.WithLabelValues(route, model).Observe(e.took.Seconds())
	if kind := e.kind(); kind != "" {
		m.refused.WithLabelValues(route, kind, model).Inc()
	}
}

// forget removes the series of a model that is no longer served.
func (m *httpMetrics) forget(model string) {
	of := prometheus.Labels{"model": model}
	m.requests.DeletePartialMatch(of)
	m.refused.DeletePartialMatch(of)
	m.duration.DeletePartialMatch(of)
}

func (s *Server) makeMetrics() error {
	machine, err := telemetry.NewMachineReader(s.Models.Memory)
	if err != nil {
		return err
	}
	s.metrics, s.registry = newHTTPMetrics(), prometheus.NewRegistry()
	for _, c := range []prometheus.Collector{
		s.metrics.requests, s.metrics.refused, s.metrics.duration, s.metrics.byKey, s.metrics.inFlight,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "mlxrank_http_body_bytes", Help: "Bytes of the bodies of running requests.",
		}, func() float64 { return float64(s.bodies.taken.Load()) }),
		&modelCollector{models: s.Models, version: s.Version, machine: machine, log: s.Logger},
	} {
		if err := s.registry.Register(c); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) metricsHandler() http.Handler {
	return promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}

// modelCollector exports the statistics of all models. Its series have the names of the
// served models, so that their number does not depend on requests.
type modelCollector struct {
	models  *Models
	version string
	machine telemetry.MachineReader
	log     zerolog.Logger

	mu      sync.Mutex
	sampled time.Time
	gpu     *float64 // percent
}

// Describe sends nothing: the metrics depend on the machine.
func (*modelCollector) Describe(chan<- *prometheus.Desc) {}

// Collect exports one snapshot of each model.
func (c *modelCollector) Collect(ch chan<- prometheus.Metric) {
	out := emitter{ch: ch}
	out.gauge("mlxrank_build_info", "The program's version; always 1.", 1, labels{"version", c.version})
	for _, f := range c.models.figures() {
		f.deadlines = c.models.deadlines.of(f.name)
		f.collect(emitter{ch, []labels{{"model", f.name}}})
	}
	stats := c.models.Stats()
	collectCache(out, stats.Cache)
	if memory, err := c.models.Memory(); err != nil {
		ch <- prometheus.NewInvalidMetric(prometheus.NewInvalidDesc(err), err)
	} else {
		out.gauge("mlxrank_mlx_memory_active_bytes", "Memory in use by MLX.", float64(memory.Active))
		out.gauge("mlxrank_mlx_memory_cache_bytes", "Freed memory that MLX keeps for reuse.", float64(memory.Cache))
		out.gauge("mlxrank_mlx_memory_peak_bytes", "Maximum of the memory in use by MLX.", float64(memory.Peak))
	}
	if gpu := c.gpuUtilization(); gpu != nil {
		out.gauge("mlxrank_gpu_utilization_ratio", "Share of time that the GPU is busy, for all processes.", *gpu/100)
	}
}

// collect exports what is known of a model. Counters go on when it is loaded again.
func (f *modelFigures) collect(out emitter) {
	out.gauge("mlxrank_model_info", "A served model; always 1. The labels are empty until it is first loaded.", 1, labels{"device", string(f.info.Device)},
		labels{"device_name", f.info.DeviceName}, labels{"dtype", string(f.info.DType)}, labels{"kernels", f.info.Kernels})
	loaded := 0.0
	if f.loaded {
		loaded = 1
		out.gauge("mlxrank_model_weight_bytes", "Memory of the weights of a loaded model.", float64(f.info.WeightBytes))
	}
	out.gauge("mlxrank_model_loaded", "Whether the model is loaded.", loaded)
	out.gauge("mlxrank_model_requests", "Requests that hold the model.", float64(f.uses))
	out.counter("mlxrank_model_loads_total", "Loads of the model that succeeded.", float64(f.loads))
	out.counter("mlxrank_model_load_failures_total", "Loads of the model that failed.", float64(f.failures))
	out.counter("mlxrank_model_unloads_total", "Times that the model was unloaded.", float64(f.unloads))
	f.stats.DeadlinesMissed += f.deadlines.late
	out.counter("mlxrank_deadlines_met_total", "Answers with scores that the server began to write before the deadlines of their clients.", float64(f.deadlines.met))
	collectRequests(out, &f.stats)
	collectWork(out, &f.stats)
	collectQueue(out, &f.stats, f.info)
	if f.stats.Cache.Limit > 0 {
		out.counter("mlxrank_cache_hits_total", "Pairs not executed, because their logits were in the cache or computed by another request.", float64(f.stats.CacheHits))
		out.counter("mlxrank_cache_misses_total", "Pairs looked up in the cache and executed.", float64(f.stats.CacheMisses))
	}
}

func collectRequests(out emitter, s *engine.Stats) {
	for outcome, n := range map[string]int64{"answered": s.Requests, "failed": s.Failed, "cancelled": s.Cancelled} {
		out.counter("mlxrank_requests_total", "Requests admitted by the engine, by outcome.", float64(n), labels{"outcome", outcome})
	}
	for reason, n := range map[string]int64{"overloaded": s.Overloaded, "late": s.Late, "too_large": s.TooLarge} {
		out.counter("mlxrank_admissions_refused_total", "Requests refused by the engine, by reason.", float64(n), labels{"reason", reason})
	}
	out.counter("mlxrank_requests_dropped_total", "Admitted requests cancelled because their deadline could not be met.", float64(s.Dropped))
	out.counter("mlxrank_pairs_dropped_total", "Pairs that were not executed because of their deadlines.", float64(s.DroppedPairs))
	for priority, n := range map[engine.Priority]int64{engine.PriorityInteractive: s.Requests - s.BatchPriority, engine.PriorityBatch: s.BatchPriority} {
		out.counter("mlxrank_requests_by_priority_total", "Requests answered with scores, by priority.", float64(n), labels{"priority", string(priority)})
	}
	out.counter("mlxrank_deadlines_missed_total", "Admitted requests without an answer at their deadlines, and answers written later.", float64(s.DeadlinesMissed))
	out.counter("mlxrank_partial_answers_total", "Requests answered without the scores of all pairs.", float64(s.Partial))
	out.counter("mlxrank_pairs_unscored_total", "Pairs of partial answers without a score.", float64(s.Unscored))
	out.histogram("mlxrank_request_duration_seconds", "Time from the admission of a request to its scores.", &s.Latency, 1e-3, timeBuckets)
	for stage, h := range map[string]*engine.Histogram{"inference": &s.Inference, "tokenization": &s.Tokenization, "queue_wait": &s.QueueWait, "other": &s.Other} {
		out.histogram("mlxrank_stage_duration_seconds", "Time of a request in each stage; the stages add up to the request's duration.", h, 1e-3, timeBuckets, labels{"stage", stage})
	}
}

func collectWork(out emitter, s *engine.Stats) {
	out.counter("mlxrank_pairs_total", "Pairs executed.", float64(s.Pairs))
	out.counter("mlxrank_duplicate_pairs_total", "Pairs not executed because they equal another pair of their request.", float64(s.Duplicates))
	out.counter("mlxrank_truncated_pairs_total", "Pairs cut to the maximum length.", float64(s.Truncated))
	out.counter("mlxrank_tokens_total", "Tokens of the pairs executed.", float64(s.Tokens))
	out.counter("mlxrank_computed_tokens_total", "Tokens computed, with padding.", float64(s.ComputedTokens))
	waste, grid, batching := s.PaddingWaste()
	for cause, pct := range map[string]float64{"grid": grid, "batching": batching} {
		out.gauge("mlxrank_padding_cause_ratio", "Share of padding among the tokens computed since the start, by cause.", pct/100, labels{"cause", cause})
	}
	out.gauge("mlxrank_padding_ratio", "Share of padding among the tokens computed since the start.", waste/100)
	out.histogram("mlxrank_batch_duration_seconds", "Time from the submission of a batch to its scores.", &s.BatchTime, 1e-3, timeBuckets)
	out.histogram("mlxrank_batch_pairs", "Pairs of a batch.", &s.BatchPairs, 1, pairBuckets)
	out.counter("mlxrank_device_busy_seconds_total", "Time in which at least one batch was executing.", s.Busy.Seconds())
	for i, w := range s.Workers {
		// The names with lane are deprecated; they stay for one release.
		for _, name := range []string{"worker", "lane"} {
			of, unit, note := labels{name, strconv.Itoa(i)}, "microbatches", ""
			if name == "lane" {
				unit, note = "shards", " Deprecated: use the mlxrank_worker_ metrics."
			}
			out.counter("mlxrank_"+name+"_busy_seconds_total", "Time a CPU worker computed microbatches; the sum of all rates is the number of busy workers."+note, w.Busy.Seconds(), of)
			out.counter("mlxrank_"+name+"_"+unit+"_total", "Microbatches a CPU worker computed."+note, float64(w.Microbatches), of)
			out.counter("mlxrank_"+name+"_tokens_total", "Tokens a CPU worker computed, padding included."+note, float64(w.ComputedTokens), of)
		}
	}
}

// collectCache exports the size of the cache that all models share, and nothing without
// one.
func collectCache(out emitter, u engine.CacheUsage) {
	if u.Limit == 0 {
		return
	}
	out.gauge("mlxrank_cache_entries", "Pairs in the cache in memory.", float64(u.Entries))
	out.gauge("mlxrank_cache_bytes", "Memory of the cache.", float64(u.Bytes))
	out.gauge("mlxrank_cache_limit_bytes", "Limit of the memory of the cache.", float64(u.Limit))
	out.gauge("mlxrank_cache_disk_bytes", "Size of the cache on disk, as of the last write; 0 without one.", float64(u.DiskBytes))
}

func collectQueue(out emitter, s *engine.Stats, info engine.Info) {
	out.gauge("mlxrank_queue_pairs", "Tokenised pairs waiting for a batch.", float64(s.Waiting))
	for priority, n := range map[engine.Priority]int{engine.PriorityInteractive: s.Waiting - s.WaitingBatch, engine.PriorityBatch: s.WaitingBatch} {
		out.gauge("mlxrank_queue_pairs_by_priority", "Tokenised pairs waiting for a batch, by priority.", float64(n), labels{"priority", string(priority)})
	}
	out.gauge("mlxrank_queue_tokens", "Tokens of all admitted requests.", float64(s.Reserved))
	out.gauge("mlxrank_queue_capacity_tokens", "Limit of the tokens of all admitted requests.", float64(info.QueueTokens))
	out.gauge("mlxrank_requests_live", "Requests that the engine has admitted and not answered.", float64(s.Live))
	out.gauge("mlxrank_batches_in_flight", "Batches executing.", float64(s.InFlight))
	out.counter("mlxrank_sessions_reopened_total", "Sessions reopened after a failure of the device.", float64(s.Reopened))
	healthy := 1.0
	if s.Unhealthy != nil {
		healthy = 0
	}
	out.gauge("mlxrank_healthy", "Whether the device works.", healthy)
}

// gpuUtilization samples the system at most once a second. It returns nil if the
// machine does not report the utilization.
func (c *modelCollector) gpuUtilization() *float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.sampled) < time.Second {
		return c.gpu
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	machine, err := c.machine(ctx, true)
	if err != nil {
		c.log.Debug().Err(err).Msg("figures of the machine")
	}
	c.sampled, c.gpu = time.Now(), machine.GPUUtilizationPct
	return c.gpu
}

// labels is one label.
type labels struct{ name, value string }

// An emitter sends metrics, all with the same labels and some of their own.
type emitter struct {
	ch     chan<- prometheus.Metric
	labels []labels
}

func (e emitter) desc(name, help string, own []labels) (*prometheus.Desc, []string) {
	var names, values []string
	for _, list := range [][]labels{e.labels, own} {
		for _, l := range list {
			names, values = append(names, l.name), append(values, l.value)
		}
	}
	return prometheus.NewDesc(name, help, names, nil), values
}

func (e emitter) gauge(name, help string, v float64, all ...labels) {
	desc, values := e.desc(name, help, all)
	e.ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, v, values...)
}

func (e emitter) counter(name, help string, v float64, all ...labels) {
	desc, values := e.desc(name, help, all)
	e.ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, v, values...)
}

// histogram exports an engine's histogram; unit is the size of its unit in
// Prometheus's.
func (e emitter) histogram(name, help string, h *engine.Histogram, unit float64, bounds []float64, all ...labels) {
	desc, values := e.desc(name, help, all)
	counts := make(map[float64]uint64, len(bounds))
	for _, bound := range bounds {
		counts[bound] = uint64(h.AtMost(bound / unit))
	}
	e.ch <- prometheus.MustNewConstHistogram(desc, uint64(h.Count), h.Sum*unit, counts, values...)
}
