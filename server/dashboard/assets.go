package dashboard

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed assets
var embedded embed.FS

// An asset is a file of the page.
type asset struct {
	kind string
	tag  string
	data []byte
}

var kinds = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
	"":      "text/plain; charset=utf-8", // licenses
}

// readAssets returns the files by their paths.
func readAssets() (map[string]asset, error) {
	files := make(map[string]asset)
	err := fs.WalkDir(embedded, "assets", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		kind, ok := kinds[path.Ext(name)]
		if !ok {
			return fmt.Errorf("dashboard: asset %s has unknown extension %q; add it to kinds", name, path.Ext(name))
		}
		data, err := embedded.ReadFile(name)
		files[strings.TrimPrefix(name, "assets/")] = asset{kind: kind, tag: fmt.Sprintf(`"%.16x"`, sha256.Sum256(data)), data: data}
		return err
	})
	return files, err
}

// ServeHTTP makes browsers revalidate each time, since another version of the
// server may run by then.
func (a asset) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", a.kind)
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", a.tag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(a.data))
}
