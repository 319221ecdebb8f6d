package server

import "sync"

// deadlineCounts count the answers with scores that had a deadline of their client.
type deadlineCounts struct {
	met  int64 // the server began to write them in time
	late int64 // the engine returned the scores in time, and the server was late
}

// answeredDeadlines has the counts by model. The engine cannot count them: it had
// returned the scores.
type answeredDeadlines struct {
	mu      sync.Mutex
	byModel map[string]deadlineCounts
}

func (d *answeredDeadlines) add(model string, met bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.byModel == nil {
		d.byModel = make(map[string]deadlineCounts)
	}
	counts := d.byModel[model]
	if met {
		counts.met++
	} else {
		counts.late++
	}
	d.byModel[model] = counts
}

func (d *answeredDeadlines) of(model string) deadlineCounts {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.byModel[model]
}

// Deadlines counts the answers with scores that had a deadline of their client: those that
// the server began to write in time, and those that were late although the engine was not.
// The others are Stats().DeadlinesMissed.
func (m *Models) Deadlines() (met, late int64) {
	d := &m.deadlines
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, counts := range d.byModel {
		met, late = met+counts.met, late+counts.late
	}
	return met, late
}
