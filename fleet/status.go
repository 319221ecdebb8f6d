package fleet

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// WorkerState is what a worker reports about itself.
type WorkerState struct {
	ID      string            `json:"id"`
	Name    string            `json:"name"`
	Class   string            `json:"class,omitempty"` // device class, "" before a model is open
	Model   string            `json:"model,omitempty"` // that is open
	Job     string            `json:"job,omitempty"`   // of the part that is scored now
	Part    int               `json:"part"`
	Pairs   int64             `json:"pairs"`   // scored since the worker started
	Rate    float64           `json:"rate"`    // pairs per second of its last part
	Refused map[string]string `json:"refused"` // why, by job
}

// Status describes a job.
type Status struct {
	Job       *Job
	Finished  int             // parts that are committed
	Pairs     int             // of these parts
	Unscored  int             // pairs among them that could not be scored
	Queued    int             // parts that wait for a worker
	Working   int             // parts that workers have
	Failed    map[int]Failure // parts that failed for good
	Troubled  map[int]Failure // parts that failed and are tried again
	Rate      float64         // pairs per second of the workers that score its parts
	Workers   []WorkerState   // of the fleet
	ServerNow time.Time
}

// Status returns what the server knows of a job.
func (f *Fleet) Status(ctx context.Context, id string) (*Status, error) {
	job, err := f.Job(ctx, id)
	if err != nil {
		return nil, err
	}
	s := &Status{Job: job}
	if s.Workers, err = f.Workers(ctx); err != nil {
		return nil, err
	}
	if !job.State.Active() {
		return s, nil
	}
	for _, worker := range s.Workers {
		if worker.Job == id {
			s.Rate += worker.Rate
		}
	}
	finished, err := f.commitsOf(ctx, job)
	if err != nil {
		return nil, err
	}
	for _, commit := range finished {
		s.Finished++
		s.Pairs += commit.Pairs
		s.Unscored += commit.Failed
	}
	isDone := func(part int) bool { _, done := finished[part]; return done }
	if s.Failed, err = f.failedParts(ctx, job, isDone); err != nil {
		return nil, err
	}
	if s.Troubled, err = entriesOf[Failure](ctx, f, failuresBucket, id+".*", partOfKey); err != nil {
		return nil, err
	}
	maps.DeleteFunc(s.Troubled, func(part int, _ Failure) bool {
		_, failed := s.Failed[part]
		return failed || isDone(part)
	})
	return s, f.queueOf(ctx, s)
}

// maxHeld is how many parts a worker holds at most.
const maxHeld = 2

// queueOf sets the counts of the queue. JetStream counts the parts of workers that died
// as theirs until others get them, and parts whose next try is due later. They wait.
func (f *Fleet) queueOf(ctx context.Context, s *Status) error {
	info, err := f.queueInfo(ctx, s.Job)
	if err != nil || info == nil {
		return err
	}
	held := 0
	for _, worker := range s.Workers {
		if worker.Job == s.Job.ID {
			held += maxHeld
		}
	}
	s.ServerNow = info.TimeStamp
	s.Working = min(info.NumAckPending, held)
	s.Queued = int(info.NumPending) + info.NumAckPending - s.Working
	return nil
}

// Workers returns the workers that reported lately, by name.
func (f *Fleet) Workers(ctx context.Context) ([]WorkerState, error) {
	found, err := entriesOf[WorkerState](ctx, f, workersBucket, ">", func(key string) (string, error) { return key, nil })
	if errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, nats.ErrStreamNotFound) {
		return nil, nil // the server was restarted, and its memory had the bucket
	}
	workers := slices.Collect(maps.Values(found))
	slices.SortFunc(workers, func(a, b WorkerState) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return workers, err
}
