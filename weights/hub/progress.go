package hub

import "sync"

// Progress tells how far the download of a file is. For each file that is not
// in the cache there is a first report, before any byte of any file comes, and
// a last one with Done equal to Total when the file is checked and in place.
// Done falls back when bytes turn out useless and are fetched again.
type Progress struct {
	Model string
	File  string
	Done  int64 // bytes
	Total int64
}

// A meter follows the download of one model.
type meter struct {
	mu     sync.Mutex
	model  string
	report func(Progress) // called by one goroutine at a time
}

// A gauge follows one file.
type gauge struct {
	meter *meter
	file  string
	total int64
	done  int64
}

func (m *meter) gauge(file string, total int64) *gauge {
	return &gauge{meter: m, file: file, total: total}
}

// announce makes the first report, of have bytes that are there already.
func (g *gauge) announce(have int64) {
	g.meter.mu.Lock()
	defer g.meter.mu.Unlock()
	g.done = min(have, g.total)
	if g.done == g.total { // it is still to be checked
		g.done = max(g.total-1, 0)
	}
	g.send()
}

// add counts n bytes more. The report that says all is there is finish's.
func (g *gauge) add(n int64) {
	g.meter.mu.Lock()
	defer g.meter.mu.Unlock()
	g.tell(g.done + n)
}

func (g *gauge) set(n int64) {
	g.meter.mu.Lock()
	defer g.meter.mu.Unlock()
	if n != g.done {
		g.tell(n)
	}
}

func (g *gauge) tell(done int64) {
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
