//go:build browser

package dashboard

import (
	"context"
	"flag"
	"fmt"
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
)

var screenshots = flag.String("screenshots", "", "folder for pictures of the page")

// chromium is the browser's path. Without one these tests fail: whoever asks for
// them wants them run.
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

// A tab is a page in a browser of its own, with all that was said and asked for
// in it.
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
	ctx, cancelTab := chromedp.NewContext(ctx)
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

// eval is what JavaScript gives.
func eval[T any](b *tab, script string) (value T) {
	b.t.Helper()
	b.do(chromedp.Evaluate(script, &value, func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }))
	return value
}

// until waits for JavaScript to be true.
func (b *tab) until(what, script string) {
	b.t.Helper()
	for start := time.Now(); !eval[bool](b, script); time.Sleep(100 * time.Millisecond) {
		if time.Since(start) > 30*time.Second {
			b.t.Fatalf("not within 30 s: %s; the page says %q", what, eval[string](b, "document.body.innerText"))
		}
	}
}

// sound checks that nothing went wrong and that nothing left the host.
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

// open shows a server's page and waits for figures.
func (b *tab) open(s *testServer) {
	b.t.Helper()
	b.do(chromedp.Navigate(s.url + "/dashboard"))
	b.until("a row", `document.getElementById("fact-uptime").textContent !== "-"`)
}

// filled says whether a chart has so many different heights: the highest
// coloured pixel of each column of its canvas.
const filled = `(key) => {
  const canvas = document.querySelector("#chart-" + key + " canvas");
  const {width, height} = canvas;
  const data = canvas.getContext("2d").getImageData(0, 0, width, height).data;
  let hash = 0;
  for (let i = 0; i < data.length; i++) hash = (hash * 31 + data[i]) | 0;
  return hash;
}`

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

func TestUnderLoad(t *testing.T) {
	e := builtin(t)
	s := serve(t, e, "127.0.0.1:0", "")
	b := openBrowser(t)
	b.theme("light")
	b.open(s)
	stop := load(t, e, 20)
	b.until("latency", `document.querySelector("#card-latency_ms .value").innerText.endsWith("ms")`)
	moving := []string{"latency_ms", "throughput_pairs_s", "queue_wait_ms", "tokenization_ms", "inference_ms", "device_busy_pct", "cpu_usage_pct", "gpu_memory_mb", "padding_waste_pct"}
	before := make(map[string]int)
	for _, key := range moving {
		before[key] = eval[int](b, "("+filled+")("+fmt.Sprintf("%q", key)+")")
	}
	b.do(chromedp.Sleep(4 * time.Second))
	for _, key := range moving {
		if after := eval[int](b, "("+filled+")("+fmt.Sprintf("%q", key)+")"); after == before[key] {
			t.Errorf("chart %s has not moved in 4 s", key)
		}
	}
	checkStageBar(t, b)
	if got := b.text("state"); got != "Running" {
		t.Errorf("state %q", got)
	}
	if got := b.text("lanes"); !strings.Contains(got, "ms") {
		t.Errorf("lanes: %q", got)
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
	stop()
	b.until("rest", `document.getElementById("state").innerText === "Idle"`)
	b.sound(s.url)
}

// checkStageBar adds up what is shown, and what is drawn.
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
