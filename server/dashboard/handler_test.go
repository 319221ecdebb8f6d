package dashboard

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
)

func TestPages(t *testing.T) {
	d, _, _ := seconds(t)
	for path, want := range map[string]struct {
		status int
		kind   string
	}{
		"/dashboard":                                  {200, "text/html; charset=utf-8"},
		"/dashboard/":                                 {308, ""},
		"/dashboard/assets/app.js":                    {200, "text/javascript; charset=utf-8"},
		"/dashboard/assets/style.css":                 {200, "text/css; charset=utf-8"},
		"/dashboard/assets/uplot/uPlot.iife.min.js":   {200, "text/javascript; charset=utf-8"},
		"/dashboard/assets/icon.svg":                  {200, "image/svg+xml"},
		"/dashboard/assets/":                          {404, ""},
		"/dashboard/assets/../dashboard.go":           {307, ""}, // to the clean path, which there is not
		"/dashboard/assets/uplot/%2e%2e/%2e%2e/facts": {404, ""},
		"/dashboard/api/":                             {404, ""},
		"/dashboard/nothing":                          {404, ""},
	} {
		w := get(t, d, path)
		if w.Code != want.status || want.kind != "" && w.Header().Get("Content-Type") != want.kind {
			t.Errorf("%s: %d, %s", path, w.Code, w.Header().Get("Content-Type"))
		}
		if csp := w.Header().Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: policy %q", path, csp)
		}
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/dashboard", nil))
	if w.Code != http.StatusMethodNotAllowed || !strings.Contains(w.Header().Get("Allow"), "GET") {
		t.Errorf("POST: %d, %v", w.Code, w.Header())
	}
	tag := get(t, d, "/dashboard").Header().Get("ETag")
	if w := get(t, d, "/dashboard", "If-None-Match", tag); w.Code != http.StatusNotModified || w.Body.Len() > 0 {
		t.Errorf("%d for what the browser has", w.Code)
	}
}

var (
	elsewhere = regexp.MustCompile(`(?:https?:)?//[a-z][a-z0-9.-]*\.[a-z]+`)
	inline    = regexp.MustCompile(`(?i)<script>|\son[a-z]+=|\sstyle=|javascript:`)
)

// Our files name no other host and use nothing that the policy forbids.
func TestAssetsNameNoOtherHost(t *testing.T) {
	err := fs.WalkDir(embedded, "assets", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.Contains(name, "/uplot/") {
			return err
		}
		data, err := embedded.ReadFile(name)
		text := strings.ReplaceAll(string(data), "http://www.w3.org/2000/svg", "")
		if found := elsewhere.FindString(text); found != "" {
			t.Errorf("%s names %s", name, found)
		}
		if found := inline.FindString(text); found != "" && strings.HasSuffix(name, ".html") {
			t.Errorf("%s has %q", name, found)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

var pinned = regexp.MustCompile(`(?m)^(server/dashboard/\S+) = ([0-9a-f]{64})$`)

// Third-party files are those that scripts/pins.ini names.
func TestPins(t *testing.T) {
	pins, err := os.ReadFile("../../scripts/pins.ini")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, m := range pinned.FindAllStringSubmatch(string(pins), -1) {
		found++
		data, err := os.ReadFile("../../" + m[1])
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != m[2] {
			t.Errorf("%s has SHA-256 %x, pinned is %s", m[1], sum, m[2])
		}
	}
	if found != 3 {
		t.Errorf("%d files are pinned", found)
	}
}
