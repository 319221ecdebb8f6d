package dashboard

import (
	"encoding/json"
	"mime"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/bench/report/reporttest"
	"github.com/mlxrank/mlxrank/internal/telemetry"
)

func get(t *testing.T, d *Dashboard, path string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w
}

// The report parser can read the Markdown, which has two sections of the seed report
// with the same columns.
func TestExportMarkdown(t *testing.T) {
	d, f, pass := seconds(t)
	f.answer(100)
	pass()
	pass()
	w := get(t, d, "/dashboard/api/export.md")
	checkDownload(t, w, "text/markdown", ".md")
	sections, err := reporttest.Parse(w.Body.String())
	if err != nil {
		t.Fatal(err)
	}
	summary, series := reporttest.Find(sections, "Dashboard Metrics Summary"), reporttest.Find(sections, "Dashboard Time-Series Data")
	if summary == nil || series == nil || len(summary.Tables) != 1 || len(series.Tables) != 1 {
		t.Fatalf("%s", w.Body)
	}
	if want := []string{"Metric", "Avg", "Min", "Max", "P50", "P95"}; !slices.Equal(summary.Tables[0].Header, want) {
		t.Errorf("%v", summary.Tables[0].Header)
	}
	if got, want := summary.Tables[0].Rows[4], []string{"Inference (ms)", "60.0", "60.0", "60.0", "60.0", "60.0"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	rows := series.Tables[0].Rows
	if len(rows) != 2 || rows[0][4] != "100.0" || rows[0][5] != "2" || rows[0][9] != "20.0" || rows[0][2] != "-" {
		t.Errorf("%v", rows)
	}
	if rows[1][4] != "-" || rows[1][5] != "0" || rows[1][9] != "-" {
		t.Errorf("a second of nothing: %v", rows[1])
	}
	if text := w.Body.String(); strings.Contains(text, "GPU Mem") || strings.Contains(text, "Verdict") {
		t.Errorf("the export of a CPU: %s", text)
	}
	if !slices.Equal(sections[0].Fields, []string{"Timestamp", "Model", "Backend", "Device"}) {
		t.Errorf("%v", sections[0].Fields)
	}
}

func TestExportJSON(t *testing.T) {
	d, f, pass := seconds(t)
	var empty, file struct {
		Facts   Facts
		Rows    []telemetry.Row
		Summary *Summary
	}
	if err := json.Unmarshal(get(t, d, "/dashboard/api/export.json").Body.Bytes(), &empty); err != nil || empty.Summary != nil || len(empty.Rows) != 0 {
		t.Errorf("before the first second: %+v, %v", empty, err)
	}
	f.answer(100)
	pass()
	pass()
	w := get(t, d, "/dashboard/api/export.json")
	checkDownload(t, w, "application/json", ".json")
	if err := json.Unmarshal(w.Body.Bytes(), &file); err != nil {
		t.Fatal(err)
	}
	if file.Facts.Model != "fake" || len(file.Rows) != 2 || file.Summary.Requests != 1 {
		t.Errorf("%+v", file)
	}
	equal(t, "latency", file.Rows[0].LatencyMS, 100)
	if file.Rows[1].LatencyMS != nil || file.Rows[1].TimeMS < file.Rows[0].TimeMS {
		t.Errorf("%+v", file.Rows)
	}
}

func checkDownload(t *testing.T, w *httptest.ResponseRecorder, kind, extension string) {
	t.Helper()
	_, params, err := mime.ParseMediaType(w.Header().Get("Content-Disposition"))
	if err != nil || !strings.HasSuffix(params["filename"], extension) || !strings.HasPrefix(w.Header().Get("Content-Type"), kind) {
		t.Errorf("%v, %v", w.Header(), err)
	}
}
