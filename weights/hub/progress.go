package hub

import "sync"

// Progress reports the progress of the download of a file. Each file that is not
// in the cache has a first report before the first byte of any file arrives. In
// its last report, Done equals Total: the file is checked and in the cache. Done
// decreases if bytes have to be fetched again.
type Progress struct {
	Model string
	File  string
	Done  int64 // bytes
	Total int64
}

// A meter counts the bytes of the download of a model.
type meter struct {
	mu     sync.Mutex
	model  string
	report func(Progress) // called by one goroutine at a time
}

// A gauge counts the bytes of a file.
type gauge struct {
	meter *meter
	file  string
	total int64
	done  int64
}

func (m *meter) gauge(file string, total int64) *gauge {
	return &gauge{meter: m, file: file, total: total}
}

// announce sends the first report; have bytes are on disk already.
func (g *gauge) announce(have int64) {
	g.meter.mu.Lock()
	defer g.meter.mu.Unlock()
	g.done = min(have, g.total)
	if g.done == g.total { // not checked yet
		g.done = max(g.total-1, 0)
	}
	g.send()
}

// add counts n more bytes. Only finish sends the report of a complete file.
func (g *gauge) add(n int64) {
	g.meter.mu.Lock()
	defer g.meter.mu.Unlock()
	g.update(g.done + n)
}

func (g *gauge) set(n int64) {
	g.meter.mu.Lock()
	defer g.meter.mu.Unlock()
	if n != g.done {
		g.update(n)
	}
}

func (g *gauge) update(done int64) {
	g.done = done
	if g.done < g.total {
		g.send()
	}
}

func (g *gauge) finish() {
	g.meter.mu.Lock()
	defer g.meter.mu.Unlock()
	g.done = g.total
	g.send()
}

func (g *gauge) send() {
	if g.meter.report != nil {
		g.meter.report(Progress{g.meter.model, g.file, g.done, g.total})
	}
}
