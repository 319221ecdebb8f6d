package server

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/mlxrank/mlxrank/engine"
)

// scrape returns /metrics after requests of every outcome.
func scrape(t *testing.T, s *Server) string {
	t.Helper()
	for _, a := range apis[:4] {
		post(s, a.path, a.body("the city", "water", "london is a city", "water"))
		post(s, a.path, "{}")
	}
	do(s, "BREW", "/teapot")
	w := do(s, "GET", "/metrics")
	if w.Code != 200 {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestMetricsLint(t *testing.T) {
	text := scrape(t, newServer(t, Config{Engine: openTiny(t, engine.Config{})}))
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	// Control: a bad name is found.
	problems, err = promlint.New(strings.NewReader(strings.ReplaceAll(text, "mlxrank_pairs_total", "mlxrank_pairsMs"))).Lint()
	if err != nil || len(problems) == 0 {
		t.Errorf("a bad name is not found: %v", err)
	}
}

// withoutModel removes the label of a model from metrics.
func withoutModel(text, name string) string {
	label := `model="` + name + `"`
	return strings.NewReplacer("{"+label+"}", "", label+",", "", ","+label, "").Replace(text)
}

func TestMetricsCount(t *testing.T) {
	e := openTiny(t, engine.Config{})
	s := newServer(t, Config{Engine: e})
	text := scrape(t, s)
	// The label of the model is the name that it is served by.
	model := `model="` + e.Info().Model + `"`
	if !strings.Contains(text, "\nmlxrank_pairs_total{"+model+"} 8\n") {
		t.Errorf("no pairs with the label %s", model)
	}
	text = withoutModel(text, e.Info().Model)
	for _, line := range []string{
		`mlxrank_pairs_total 8`, `mlxrank_duplicate_pairs_total 4`, `mlxrank_requests_total{outcome="answered"} 4`,
		`mlxrank_requests_total{outcome="cancelled"} 0`, `mlxrank_admissions_refused_total{reason="overloaded"} 0`,
		`mlxrank_http_requests_total{code="200",method="POST",route="/v1/rerank"} 1`,
		`mlxrank_http_requests_total{code="404",method="other",model="",route="other"} 1`,
		`mlxrank_http_failures_total{model="",route="/predict",type="Validation"} 1`,
		`mlxrank_request_duration_seconds_count 4`, `mlxrank_request_duration_seconds_bucket{le="+Inf"} 4`, `mlxrank_request_duration_seconds_bucket{le="30"} 4`,
		`mlxrank_stage_duration_seconds_count{stage="queue_wait"} 4`, `mlxrank_batch_pairs_count 4`, `mlxrank_batch_pairs_bucket{le="1"} 0`, `mlxrank_batch_pairs_bucket{le="2"} 4`,
		`mlxrank_queue_pairs 0`, `mlxrank_queue_tokens 0`, `mlxrank_queue_capacity_tokens 1.6777216e+07`, `mlxrank_healthy 1`, `mlxrank_http_body_bytes 0`,
		`mlxrank_http_requests_in_flight 1`, `mlxrank_build_info{version="test"} 1`, `mlxrank_padding_ratio 0`,
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("no line %q", line)
		}
	}
	for _, name := range []string{"mlxrank_mlx_memory_active_bytes", "mlxrank_mlx_memory_cache_bytes", "mlxrank_mlx_memory_peak_bytes", "mlxrank_worker_busy_seconds_total", "mlxrank_worker_microbatches_total", "mlxrank_worker_tokens_total", "mlxrank_lane_busy_seconds_total", "process_cpu_seconds_total", "mlxrank_device_busy_seconds_total"} {
		if !strings.Contains(text, "\n# HELP "+name+" ") {
			t.Errorf("no %s", name)
		}
	}
	if n, err := testutil.GatherAndCount(s.registry); err != nil || n < 60 {
		t.Errorf("%d metrics: %v", n, err)
	}
}

// Deadlines and priorities are counted, and the series of a removed model go.
func TestMetricsOfDeadlines(t *testing.T) {
	s := newServer(t, Config{Engine: openTiny(t, engine.Config{})})
	const body = `{"query": "the city", "texts": ["water"]}`
	post(s, "/rerank", body, headerDeadline, "50000", headerPriority, "batch")
	post(s, "/rerank", body)
	model := s.Models.defaultName()
	text := do(s, "GET", "/metrics").Body.String()
	for _, line := range []string{
		`mlxrank_deadlines_met_total{model="` + model + `"} 1`, `mlxrank_deadlines_missed_total{model="` + model + `"} 0`,
		`mlxrank_requests_by_priority_total{model="` + model + `",priority="batch"} 1`, `mlxrank_queue_pairs_by_priority{model="` + model + `",priority="batch"} 0`,
		`mlxrank_http_requests_total{code="200",method="POST",model="` + model + `",route="/rerank"} 2`,
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("no line %q", line)
		}
	}
	if met, late := s.Models.Deadlines(); met != 1 || late != 0 {
		t.Errorf("%d met, %d late", met, late)
	}
	s.metrics.forget(model)
	if text := do(s, "GET", "/metrics").Body.String(); strings.Contains(text, `method="POST",model="`+model) {
		t.Errorf("series of the removed model: %s", text)
	}
}

// Stages add up to the requests' time, as they do in the engine.
func TestStagesAddUp(t *testing.T) {
	s := newServer(t, Config{Engine: openTiny(t, engine.Config{})})
	scrape(t, s)
	families, err := s.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			sums[f.GetName()] += m.GetHistogram().GetSampleSum()
		}
	}
	all, stages := sums["mlxrank_request_duration_seconds"], sums["mlxrank_stage_duration_seconds"]
	if all <= 0 || stages < 0.999*all || stages > 1.001*all {
		t.Errorf("stages take %v s, requests %v s", stages, all)
	}
}

// Every metric of the Grafana dashboard is exported, on this machine or on one that
// reports the GPU's utilization.
func TestGrafanaDashboard(t *testing.T) {
	data, err := os.ReadFile("grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Title      string
		UID        string
		Templating struct{ List []struct{ Name string } }
		Panels     []struct {
			ID      int
			Title   string
			Type    string
			Targets []struct{ Expr string }
			GridPos struct{ H, W, X, Y int }
		}
	}
	if err := json.Unmarshal(data, &dashboard); err != nil {
		t.Fatal(err)
	}
	exported := map[string]bool{"mlxrank_gpu_utilization_ratio": true}
	help := regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`)
	for _, m := range help.FindAllStringSubmatch(scrape(t, newServer(t, Config{Engine: openTiny(t, engine.Config{Cache: openCache(t)})})), -1) {
		exported[m[1]] = true
		if m[2] == "histogram" {
			exported[m[1]+"_bucket"], exported[m[1]+"_sum"], exported[m[1]+"_count"] = true, true, true
		}
	}
	name := regexp.MustCompile(`\b(?:mlxrank|process|go)_[a-z_]+`)
	asked, ids := 0, map[int]bool{}
	for _, p := range dashboard.Panels {
		if ids[p.ID] || p.Title == "" || p.GridPos.W == 0 || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %+v", p)
		}
		ids[p.ID] = true
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q asks for nothing", p.Title)
		}
		for _, target := range p.Targets {
			names := name.FindAllString(target.Expr, -1)
			if len(names) == 0 {
				t.Errorf("panel %q: %q names no metric", p.Title, target.Expr)
			}
			for _, n := range names {
				if asked++; !exported[n] {
					t.Errorf("panel %q asks for %s, which is not exported", p.Title, n)
				}
			}
		}
	}
	if dashboard.Title == "" || dashboard.UID == "" || asked < 20 {
		t.Errorf("%q (%q) asks for %d metrics", dashboard.Title, dashboard.UID, asked)
	}
}
