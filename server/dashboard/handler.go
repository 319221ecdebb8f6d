package dashboard

import (
	"errors"
	"net/http"
	"strconv"
	"time"
)

func (d *Dashboard) makeRoutes() error {
	files, err := readAssets()
	if err != nil {
		return err
	}
	d.routes = http.NewServeMux()
	d.routes.Handle("GET /dashboard", files["index.html"])
	d.routes.Handle("GET /dashboard/{$}", http.RedirectHandler("/dashboard", http.StatusPermanentRedirect))
	for name, f := range files {
		d.routes.Handle("GET /dashboard/assets/"+name, f)
	}
	d.routes.HandleFunc("GET /dashboard/api/events", d.watch)
	d.routes.HandleFunc("GET /dashboard/api/export.json", d.export("json", "application/json", d.exportJSON))
	d.routes.HandleFunc("GET /dashboard/api/export.md", d.export("md", "text/markdown; charset=utf-8", d.exportMarkdown))
	return nil
}

// ServeHTTP serves /dashboard and all paths below it.
func (d *Dashboard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	if err := limitWriting(http.NewResponseController(w)); err != nil {
		d.Logger.Debug().Err(err).Msg("dashboard: set write deadline")
		return // the connection is gone
	}
	d.routes.ServeHTTP(w, r)
}

// policy lets the page load from and call this server only. It forbids inline
// scripts and styles.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// limitWriting sets a deadline: the client has writeTime to read the next write.
func limitWriting(c *http.ResponseController) error {
	err := c.SetWriteDeadline(time.Now().Add(writeTime))
	if errors.Is(err, http.ErrNotSupported) { // a test's response recorder never waits
		return nil
	}
	return err
}

// write sends a whole response. An error means that the client is gone.
func write(w http.ResponseWriter, data []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	if _, err := w.Write(data); err != nil {
		return
	}
}
