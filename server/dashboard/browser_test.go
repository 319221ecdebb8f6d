//go:build browser

package dashboard

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"image/png"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	cdpbrowser "github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/mlxrank/mlxrank/bench/report/reporttest"
	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/internal/telemetry"
)

var screenshots = flag.String("screenshots", "", "folder for pictures of the page")

// chromium returns the browser's path. The tests fail without a browser, since the
// build tag asks for them.
func chromium(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable",
		"/Applications/Google Chrome.app/Contents/MacOS/Google Chrome", "/Applications/Chromium.app/Contents/MacOS/Chromium"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("there is no chromium: apt-get install chromium, or on macOS brew install --cask chromium")
	return ""
}

// A tab is a page in its own browser, with a record of its messages and requests.
type tab struct {
	context.Context
	t         testing.TB
	downloads string

	mu       sync.Mutex
	faults   []string // exceptions, and what is logged as an error
	requests []string
}

func openBrowser(t testing.TB) *tab {
	t.Helper()
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(chromium(t)), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true), chromedp.NoFirstRun,
		chromedp.WindowSize(1440, 1000))
	ctx, cancelBrowser := chromedp.NewExecAllocator(context.Background(), options...)
	// chromedp complains about events that it does not know. Failures are errors.
	ctx, cancelTab := chromedp.NewContext(ctx, chromedp.WithErrorf(func(string, ...any) {}))
	ctx, cancelTime := context.WithTimeout(ctx, 3*time.Minute)
	b := &tab{Context: ctx, t: t, downloads: t.TempDir()}
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Log(err)
		}
		cancelTime()
		cancelTab()
		cancelBrowser()
	})
	chromedp.ListenTarget(ctx, b.listen)
	b.do(network.Enable(), cdplog.Enable(), runtime.Enable(),
		cdpbrowser.SetDownloadBehavior(cdpbrowser.SetDownloadBehaviorBehaviorAllow).WithDownloadPath(b.downloads))
	return b
}

func (b *tab) listen(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		b.faults = append(b.faults, e.ExceptionDetails.Error())
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.APITypeError || e.Type == runtime.APITypeWarning {
			b.faults = append(b.faults, fmt.Sprintf("console: %s", e.Args[0].Value))
		}
	case *cdplog.EventEntryAdded:
		if e.Entry.Level == cdplog.LevelError || e.Entry.Level == cdplog.LevelWarning {
			b.faults = append(b.faults, e.Entry.Text+" "+e.Entry.URL)
		}
	case *network.EventRequestWillBeSent:
		b.requests = append(b.requests, e.Request.URL)
	}
}

func (b *tab) do(actions ...chromedp.Action) {
	b.t.Helper()
	if err := chromedp.Run(b, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// eval returns the value of a JavaScript expression.
func eval[T any](b *tab, script string) (value T) {
	b.t.Helper()
	b.do(chromedp.Evaluate(script, &value, func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }))
	return value
}

// until waits until a JavaScript expression is true.
func (b *tab) until(what, script string) {
	b.t.Helper()
	for start := time.Now(); !eval[bool](b, script); time.Sleep(100 * time.Millisecond) {
		if time.Since(start) > 30*time.Second {
			b.t.Fatalf("not within 30 s: %s; the page says %q", what, eval[string](b, "document.body.innerText"))
		}
	}
}

// sound checks that the page had no errors and requested nothing from other hosts.
func (b *tab) sound(host string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, fault := range b.faults {
		b.t.Errorf("the browser reports: %s", fault)
	}
	if len(b.requests) == 0 {
		b.t.Error("no request was seen at all")
	}
	for _, request := range b.requests {
		u, err := url.Parse(request)
		if err != nil || u.Scheme != "blob" && "http://"+u.Host != host {
			b.t.Errorf("a request left the host: %s", request)
		}
	}
}

func (b *tab) text(id string) string {
	return eval[string](b, fmt.Sprintf("document.getElementById(%q).innerText", id))
}

func (b *tab) screenshot(name string) {
	b.t.Helper()
	if *screenshots == "" {
		return
	}
	var picture []byte
	b.do(chromedp.FullScreenshot(&picture, 100))
	if err := os.MkdirAll(*screenshots, 0o777); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(*screenshots, name+".png"), picture, 0o666); err != nil {
		b.t.Fatal(err)
	}
}

const phone = 390 // pixels

func (b *tab) size(width, height int64) {
	b.do(emulation.SetDeviceMetricsOverride(width, height, 1, width < 600), chromedp.Sleep(400*time.Millisecond))
}

func (b *tab) theme(name string) {
	b.do(emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}}), chromedp.Sleep(300*time.Millisecond))
}

// open opens a server's page and waits for figures.
func (b *tab) open(s *testServer) {
	b.t.Helper()
	b.do(chromedp.Navigate(s.url + "/dashboard"))
	b.until("a row", `document.getElementById("fact-uptime").textContent !== "-"`)
}

// picture hashes a chart's pixels. It reads a copy, since the browser warns about
// canvases that are read often.
const picture = `(key) => {
  const from = document.querySelector("#chart-" + key + " canvas");
  const copy = new OffscreenCanvas(from.width, from.height).getContext("2d", {willReadFrequently: true});
  copy.drawImage(from, 0, 0);
  return copy.getImageData(0, 0, from.width, from.height).data.reduce((hash, byte) => (hash * 31 + byte) | 0, 0);
}`

func (b *tab) picture(key string) int {
	b.t.Helper()
	return eval[int](b, fmt.Sprintf("(%s)(%q)", picture, key))
}

func TestEmptyPage(t *testing.T) {
	s := serve(t, builtin(t), "127.0.0.1:0", "")
	b := openBrowser(t)
	b.open(s)
	for id, want := range map[string]string{"state": "Idle", "fact-model": "builtin", "padding-waste": "-", "max-tokens": "-"} {
		if got := b.text(id); got != want {
			t.Errorf("%s is %q, want %q", id, got, want)
		}
	}
	for _, key := range []string{"latency_ms", "queue_wait_ms", "tokenization_ms", "inference_ms"} {
		if got := eval[string](b, fmt.Sprintf(`document.querySelector("#card-%s .value").innerText`, key)); got != "-" {
			t.Errorf("%s of no request is %q", key, got)
		}
	}
	b.do(chromedp.Sleep(2 * time.Second))
	b.theme("light")
	b.screenshot("empty-light")
	b.sound(s.url)
}

// openUnderLoad opens the page of an engine that ranks the given number of documents
// again and again until stop, and waits for the first figures.
func openUnderLoad(t *testing.T, documents int) (b *tab, s *testServer, stop func()) {
	e := builtin(t)
	s = serve(t, e, "127.0.0.1:0", "")
	b = openBrowser(t)
	b.theme("light")
	b.open(s)
	stop = load(t, e, documents)
	b.until("latency", `document.querySelector("#card-latency_ms .value").innerText.endsWith("ms")`)
	return b, s, stop
}

func TestUnderLoad(t *testing.T) {
	b, s, stop := openUnderLoad(t, 20)
	moving := []string{"latency_ms", "throughput_pairs_s", "queue_wait_ms", "tokenization_ms", "inference_ms", "device_busy_pct", "cpu_usage_pct", "gpu_memory_mb", "padding_waste_pct"}
	before := make(map[string]int)
	for _, key := range moving {
		before[key] = b.picture(key)
	}
	b.do(chromedp.Sleep(4 * time.Second))
	for _, key := range moving {
		if after := b.picture(key); after == before[key] {
			t.Errorf("chart %s has not moved in 4 s", key)
		}
	}
	checkStageBar(t, b)
	if got := b.text("state"); got != "Running" {
		t.Errorf("state %q", got)
	}
	if got := b.text("workers"); !strings.ContainsAny(got, "123456789") || strings.Contains(got, "NaN") {
		t.Errorf("workers: %q", got)
	}
	if *screenshots != "" {
		b.do(chromedp.Sleep(25 * time.Second))
	}
	b.screenshot("load-light")
	b.theme("dark")
	b.screenshot("load-dark")
	b.size(phone, 844)
	b.screenshot("load-phone-dark")
	b.theme("light")
	b.screenshot("load-phone")
	if width := eval[int](b, "document.documentElement.scrollWidth"); width > phone {
		t.Errorf("on a phone of %d the page is %d wide", phone, width)
	}
	// All eight values of a worker and their titles are visible without scrolling
	// sideways.
	hidden := eval[[]string](b, `(() => {
	  const table = document.getElementById("workers").closest(".scroll"), right = table.getBoundingClientRect().right;
	  const cells = [...document.querySelectorAll("#workers tr:first-child td")];
	  if (cells.length !== 8 || table.scrollWidth > table.clientWidth) return ["the table: " + table.scrollWidth + " of " + table.clientWidth];
	  return cells.filter((td) => td.getBoundingClientRect().right > right || getComputedStyle(td, "::before").content.length < 4).map((td) => td.dataset.title);
	})()`)
	if len(hidden) > 0 {
		t.Errorf("on a phone these of the workers are not in sight: %q", hidden)
	}
	stop()
	b.until("rest", `document.getElementById("state").innerText === "Idle"`)
	b.sound(s.url)
}

// checkStageBar adds up the shares as text and as widths.
func checkStageBar(t testing.TB, b *tab) {
	t.Helper()
	sums := eval[[]float64](b, `(() => {
	  const sum = (all) => all.reduce((a, b) => a + b, 0);
	  const bar = document.getElementById("stage-bar");
	  return [
	    sum([...document.querySelectorAll("#stage-legend b")].map((e) => parseFloat(e.textContent))),
	    sum([...bar.children].map((e) => parseFloat(e.style.width))),
	  ];
	})()`)
	for _, sum := range sums {
		if sum < 99.999 || sum > 100.001 {
			t.Errorf("the stages add up to %v %%", sum)
		}
	}
}

// The page shows a restarted server without a reload, and the history after a
// reload.
func TestReconnect(t *testing.T) {
	e := builtin(t)
	s := serve(t, e, "127.0.0.1:0", "")
	b := openBrowser(t)
	b.open(s)
	b.until("three rows", `document.querySelector("#window").textContent === "3 s"`)
	b.do(chromedp.Reload())
	b.until("the history from before the reload", `parseInt(document.querySelector("#window").textContent) >= 3`)
	s.stop()
	b.until("disconnected", `document.getElementById("state").innerText === "Disconnected" && !document.getElementById("notice").hidden`)
	b.screenshot("disconnected")
	again := serve(t, e, strings.TrimPrefix(s.url, "http://"), "")
	b.until("connected", `document.getElementById("state").innerText !== "Disconnected" && document.getElementById("notice").hidden`)
	b.until("the new server's rows", `parseInt(document.querySelector("#window").textContent) < 30`)
	// The browser may report only that the server was away.
	b.forgive("net::ERR_", "Failed to load resource")
	b.sound(again.url)
}

// forgive removes the faults that the test caused.
func (b *tab) forgive(texts ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.faults = slices.DeleteFunc(b.faults, func(fault string) bool {
		return slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(fault, text) })
	})
}

func TestTryIt(t *testing.T) {
	s := serve(t, builtin(t), "127.0.0.1:0", "")
	b := openBrowser(t)
	b.open(s)
	b.do(chromedp.Click("#try-go"))
	b.until("results", `document.querySelectorAll("#try-results li").length === 4`)
	if best := eval[string](b, `document.querySelector("#try-results li span").textContent`); !strings.HasPrefix(best, "logrotate") {
		t.Errorf("best: %q", best)
	}
	scores := eval[[]float64](b, `[...document.querySelectorAll("#try-results b")].map((e) => parseFloat(e.textContent))`)
	if !slices.IsSortedFunc(scores, func(a, b float64) int { return int(1e6 * (b - a)) }) || scores[0] == 0 {
		t.Errorf("scores %v", scores)
	}
	b.screenshot("try-it")
	b.do(chromedp.SetValue("#try-query", "refuse me"), chromedp.Click("#try-go"))
	b.until("the refusal", `document.getElementById("try-note").textContent === "422: refused, as asked for"`)
	b.do(chromedp.SetValue("#try-query", " "), chromedp.Click("#try-go"))
	b.until("the reminder", `document.getElementById("try-note").textContent === "Write a query."`)
	b.forgive("status of 422")
	b.sound(s.url)
}

// With several models the page has a table of them and the form a choice; with one it has
// neither.
func TestSeveralModels(t *testing.T) {
	type row = map[string]any
	var mu sync.Mutex
	models := []row{
		{"id": "cross-encoder/ms-marco-MiniLM-L6-v2", "aliases": []string{"rerank-v3.5", "latest"}, "default": true, "state": "loaded", "running_requests": 3, "requests": 1234, "pairs": 24680, "weight_bytes": 90854404, "last_use_ms": 1700000000000},
		{"id": "org/absent", "aliases": []string{}, "default": false, "state": "failed", "running_requests": 0, "requests": 0, "pairs": 0},
		{"id": "/srv/models/a-directory-with-a-long-name/of-a-model-that-was-fine-tuned-here", "aliases": []string{}, "default": false, "state": "unloaded", "running_requests": 0, "requests": 7, "pairs": 70, "weight_bytes": 45427202, "last_use_ms": 1700000001000},
	}
	s := serveModels(t, builtin(t), "127.0.0.1:0", "", func() any {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(models)
	})
	b := openBrowser(t)
	b.theme("light")
	b.open(s)
	b.until("three models", `document.querySelectorAll("#models tr").length === 3`)
	got := eval[[]string](b, `[...document.querySelectorAll("#models tr")].map((row) => [...row.children].map((td) => td.innerText).join("|"))`)
	for i, want := range []string{
		"cross-encoder/ms-marco-MiniLM-L6-v2, rerank-v3.5, latest (default)|loaded|3|1,234|24,680|86.6 MB|",
		"org/absent|failed|0|0|0|-|-",
		"/srv/models/a-directory-with-a-long-name/of-a-model-that-was-fine-tuned-here|unloaded|0|7|70|-|",
	} {
		if !strings.HasPrefix(got[i], want) {
			t.Errorf("row %d is %q, want %q", i, got[i], want)
		}
	}
	// The form asks the chosen model, and keeps the choice while figures arrive.
	b.do(chromedp.SetValue("#try-model", "org/absent"), chromedp.Sleep(2500*time.Millisecond), chromedp.Click("#try-go"))
	b.until("the refusal", `document.getElementById("try-note").textContent === "404: model is not served"`)
	b.screenshot("models-light")
	b.theme("dark")
	b.size(phone, 844)
	b.screenshot("models-phone-dark")
	if width := eval[int](b, "document.documentElement.scrollWidth"); width > phone {
		t.Errorf("on a phone of %d the page is %d wide", phone, width)
	}
	hidden := eval[[]string](b, `(() => {
	  const table = document.querySelector("#models-panel .scroll"), right = table.getBoundingClientRect().right;
	  if (table.scrollWidth > table.clientWidth) return ["the table: " + table.scrollWidth + " of " + table.clientWidth];
	  return [...document.querySelectorAll("#models td")].filter((td) => td.getBoundingClientRect().right > right || getComputedStyle(td, "::before").content.length < 4).map((td) => td.dataset.title);
	})()`)
	if len(hidden) > 0 {
		t.Errorf("on a phone these of the models are not in sight: %q", hidden)
	}
	mu.Lock()
	models = models[:1]
	mu.Unlock()
	b.until("no table", `document.getElementById("models-panel").hidden && document.getElementById("try-model-row").hidden`)
	b.forgive("status of 404")
	b.sound(s.url)
}

// The panels of the cache, deadlines and priorities show their figures on every screen.
func TestAnswerPanels(t *testing.T) {
	f := &fakeEngine{}
	s := serve(t, f, "127.0.0.1:0", "")
	b := openBrowser(t)
	b.theme("light")
	b.open(s)
	if !eval[bool](b, `document.getElementById("cache-panel").hidden`) {
		t.Error("there is a panel of the cache without a cache")
	}
	f.set(func(s *engine.Stats) {
		s.CacheHits, s.CacheMisses, s.Cache = 123_456, 41_152, engine.CacheUsage{Entries: 41_000, Bytes: 6 << 20, Limit: 64 << 20, DiskBytes: 123 << 20}
		s.Late, s.DeadlinesMissed, s.Partial = 12, 3, 45
		s.Requests, s.BatchPriority, s.Waiting, s.WaitingBatch = 1500, 300, 1230, 1200
	})
	b.until("the cache", `document.getElementById("cache-rate").innerText === "75.0 %"`)
	for id, want := range map[string]string{
		"cache-hits": "123 k", "cache-misses": "41,152", "cache-memory": "6.00 MiB", "cache-limit": "Memory of 64 MiB", "cache-entries": "41,000", "cache-disk": "123 MiB",
		"deadlines-met": "0", "deadlines-missed": "3", "deadlines-partial": "45", "deadlines-refused": "12",
		"interactive-requests": "1,200", "interactive-waiting": "30 pairs", "batch-requests": "300", "batch-waiting": "1,200 pairs",
	} {
		if got := b.text(id); got != want {
			t.Errorf("%s is %q, want %q", id, got, want)
		}
	}
	for _, theme := range []string{"light", "dark"} {
		b.theme(theme)
		for _, width := range []int64{phone, 820, 1440} {
			b.size(width, 900)
			b.screenshot(fmt.Sprintf("answers-%s-%d", theme, width))
			if got := eval[int64](b, "document.documentElement.scrollWidth"); got > width {
				t.Errorf("on a screen of %d the page is %d wide", width, got)
			}
			if cut := eval[[]string](b, `[...document.querySelectorAll(".three dd, .three dt")].filter((e) => e.scrollWidth > e.clientWidth).map((e) => e.innerText)`); len(cut) > 0 {
				t.Errorf("on a screen of %d these are cut off: %q", width, cut)
			}
		}
	}
	b.sound(s.url)
}

func TestExports(t *testing.T) {
	b, s, stop := openUnderLoad(t, 10)
	b.do(chromedp.Sleep(2 * time.Second))
	stop()
	for id, check := range map[string]func([]byte) error{
		"json": func(data []byte) error {
			var file struct{ Rows []telemetry.Row }
			if err := json.Unmarshal(data, &file); err != nil || len(file.Rows) == 0 {
				return fmt.Errorf("%d rows: %w", len(file.Rows), err)
			}
			return nil
		},
		"md": func(data []byte) error {
			sections, err := reporttest.Parse(string(data))
			if err == nil && reporttest.Find(sections, "Dashboard Time-Series Data") == nil {
				err = errors.New("no series")
			}
			return err
		},
		"png": func(data []byte) error {
			if *screenshots != "" {
				if err := os.WriteFile(filepath.Join(*screenshots, "export.png"), data, 0o666); err != nil {
					return err
				}
			}
			picture, err := png.Decode(bytes.NewReader(data))
			if err == nil && picture.Bounds().Dx() < 1000 {
				err = fmt.Errorf("%v", picture.Bounds())
			}
			return err
		},
	} {
		b.do(chromedp.Click("#export-" + id))
		var data []byte
		waitFor(t, "a file from "+id, func() bool {
			files, err := filepath.Glob(filepath.Join(b.downloads, "mlxrank-dashboard-*."+id))
			if err != nil || len(files) != 1 {
				return false
			}
			data, err = os.ReadFile(files[0])
			return err == nil && len(data) > 0
		})
		if err := check(data); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	b.sound(s.url)
}

func TestKey(t *testing.T) {
	s := serve(t, builtin(t), "127.0.0.1:0", "secret")
	b := openBrowser(t)
	b.do(chromedp.Navigate(s.url + "/dashboard"))
	b.until("the question", `document.getElementById("key-dialog").open`)
	b.screenshot("key")
	b.do(chromedp.SendKeys("#key", "wrong"+kb.Enter))
	b.until("the second question", `document.getElementById("key-dialog").open && document.getElementById("key-note").textContent.startsWith("The server rejected")`)
	b.do(chromedp.SendKeys("#key", "secret"+kb.Enter))
	b.until("a row", `document.getElementById("fact-uptime").textContent !== "-"`)
	b.do(chromedp.Reload())
	b.until("a row after a reload, without a question", `document.getElementById("fact-uptime").textContent !== "-"`)
	b.do(chromedp.Click("#try-go"))
	b.until("results", `document.querySelectorAll("#try-results li").length === 4`)
	b.forgive("status of 401")
	b.sound(s.url)
}

// The keyboard reaches everything with a visible focus, and arrow keys read the
// seconds of charts.
func TestKeyboard(t *testing.T) {
	s := serve(t, builtin(t), "127.0.0.1:0", "")
	b := openBrowser(t)
	b.open(s)
	b.until("two rows", `parseInt(document.querySelector("#window").textContent) >= 2`)
	var order []string
	for range 40 {
		b.do(chromedp.KeyEvent(kb.Tab))
		focus := eval[[]string](b, `(() => {
		  const e = document.activeElement, style = getComputedStyle(e);
		  return [e.id || e.className || e.tagName, style.outlineStyle + " " + style.outlineWidth];
		})()`)
		if focus[0] == "BODY" || len(order) > 0 && focus[0] == order[0] {
			break
		}
		order = append(order, focus[0])
		if strings.HasPrefix(focus[1], "none") || strings.HasSuffix(focus[1], " 0px") {
			t.Errorf("the focus on %s is not to be seen: outline %s", focus[0], focus[1])
		}
		if focus[0] == "chart-cpu_usage_pct" {
			b.do(chromedp.KeyEvent(kb.ArrowLeft))
			b.until("the reading", `/^\d\d:\d\d:\d\d: [0-9.]+ %$/.test(document.getElementById("reading").textContent)`)
		}
	}
	want := []string{"skip", "export-json", "export-png", "export-md", "docs", "theme", "chart-latency_ms", "chart-throughput_pairs_s", "chart-queue_wait_ms",
		"chart-tokenization_ms", "chart-inference_ms", "chart-device_busy_pct", "chart-cpu_usage_pct", "chart-gpu_memory_mb",
		"chart-gpu_utilization_pct", "chart-padding_waste_pct", "scroll", "try-query", "try-passages", "try-go", "A"}
	if !slices.Equal(order, want) {
		t.Errorf("the order is %v,\nwant %v", order, want)
	}
	before := eval[string](b, "document.documentElement.dataset.theme")
	for range 3 { // auto, and both others, one of which is another
		b.do(chromedp.Focus("#theme"), chromedp.KeyEvent(" "))
		if eval[string](b, "document.documentElement.dataset.theme") != before {
			b.sound(s.url)
			return
		}
	}
	t.Error("the theme does not change")
}

// axe-core finds no serious fault: light and dark, desktop and phone, with and
// without figures.
func TestAccessibility(t *testing.T) {
	axe, err := os.ReadFile("testdata/axe-core/axe.min.js")
	if err != nil {
		t.Fatal(err)
	}
	e := builtin(t)
	s := serve(t, e, "127.0.0.1:0", "")
	b := openBrowser(t)
	b.open(s)
	b.do(chromedp.Evaluate(string(axe), nil))
	check := func(state string) {
		t.Helper()
		faults := eval[[]string](b, `axe.run().then((r) => {
		  if (r.passes.length < 10) throw new Error("axe has checked next to nothing");
		  return r.violations.map((v) => v.impact + " " + v.id + ": " + v.help + ": " + v.nodes.map((n) => n.html).join(" ; ").slice(0, 400));
		})`)
		for _, fault := range faults {
			t.Errorf("%s: %s", state, fault)
		}
	}
	check("empty, light")
	b.theme("dark")
	check("empty, dark")
	stop := load(t, e, 10)
	b.until("latency", `document.querySelector("#card-latency_ms .value").innerText.endsWith("ms")`)
	b.do(chromedp.Click("#try-go"))
	b.until("results", `document.querySelectorAll("#try-results li").length === 4`)
	stop()
	check("dark")
	b.theme("light")
	check("light")
	b.size(phone, 844)
	check("phone")
	b.theme("dark")
	check("phone, dark")
	s.stop()
	b.until("disconnected", `document.getElementById("state").innerText === "Disconnected"`)
	check("disconnected, dark")
	b.forgive("net::ERR_", "Failed to load resource")
	b.sound(s.url)
}
