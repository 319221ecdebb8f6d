package dashboard

import "github.com/mlxrank/mlxrank/internal/telemetry"

// Cache describes the cache of logits. Hits and misses are pairs of the window.
type Cache struct {
	HitPct    *float64 `json:"hit_pct"`
	Hits      int64    `json:"hits"`
	Misses    int64    `json:"misses"`
	Entries   int64    `json:"entries"`
	Bytes     int64    `json:"bytes"`
	Limit     int64    `json:"limit_bytes"`
	DiskBytes int64    `json:"disk_bytes"`
}

// Deadlines count the requests of the window whose deadlines mattered.
type Deadlines struct {
	Met     int64 `json:"met"`     // answered in time
	Missed  int64 `json:"missed"`  // answered late or not at all
	Partial int64 `json:"partial"` // answered without the scores of all pairs
	Refused int64 `json:"refused"` // because the deadline could not be met
}

// Priorities divide the requests that were answered in the window, and the pairs that
// wait now.
type Priorities struct {
	Interactive Priority `json:"interactive"`
	Batch       Priority `json:"batch"`
}

// A Priority is one part of Priorities.
type Priority struct {
	Requests     int64 `json:"requests"`
	WaitingPairs int   `json:"waiting_pairs"`
}

// deadlines are the results of Options.Deadlines.
type deadlines struct{ met, late int64 }

func (d *Dashboard) countDeadlines() (now deadlines) {
	if d.Deadlines != nil {
		now.met, now.late = d.Deadlines()
	}
	return now
}

func cache(before, after *telemetry.Snapshot) *Cache {
	u := after.Cache
	if u.Limit == 0 {
		return nil
	}
	hits, misses := after.CacheHits-before.CacheHits, after.CacheMisses-before.CacheMisses
	return &Cache{
		HitPct: telemetry.Rounded(telemetry.Ratio(100*float64(hits), float64(hits+misses))), Hits: hits, Misses: misses,
		Entries: u.Entries, Bytes: u.Bytes, Limit: u.Limit, DiskBytes: u.DiskBytes,
	}
}

func (r *ring) deadlines() Deadlines {
	first, last := &r.entries[0], &r.entries[len(r.entries)-1]
	before, after := &first.Before, &last.After
	return Deadlines{
		Met:     last.deadlines.met - first.deadlinesBefore.met,
		Missed:  after.DeadlinesMissed - before.DeadlinesMissed + last.deadlines.late - first.deadlinesBefore.late,
		Partial: after.Partial - before.Partial,
		Refused: after.Late - before.Late + after.Dropped - before.Dropped,
	}
}

func priorities(before, after *telemetry.Snapshot) Priorities {
	all, batch := after.Requests-before.Requests, after.BatchPriority-before.BatchPriority
	return Priorities{
		Interactive: Priority{all - batch, after.Waiting - after.WaitingBatch},
		Batch:       Priority{batch, after.WaitingBatch},
	}
}
