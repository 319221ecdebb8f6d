package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"maps"

	"github.com/nats-io/nats.go/jetstream"
)

// undelivered is an advisory of JetStream.
type undelivered struct {
	Consumer   string `json:"consumer"`
	Sequence   uint64 `json:"stream_seq"`
	Deliveries int    `json:"deliveries"`
}

// failedParts returns the parts of a job that are delivered no more and are not done.
// Workers note the reason. A part whose workers died is known from JetStream's advisory
// only.
func (f *Fleet) failedParts(ctx context.Context, job *Job, done func(part int) bool) (map[int]Failure, error) {
	noted, err := entriesOf[Failure](ctx, f, failuresBucket, job.ID+".*", partOfKey)
	if err != nil {
		return nil, err
	}
	failed := map[int]Failure{}
	lost, err := f.undeliveredParts(ctx, job)
	if err != nil {
		return nil, err
	}
	stuck, err := f.stuckParts(ctx, job)
	if err != nil {
		return nil, err
	}
	for part := range stuck {
		if lost[part] == 0 {
			lost[part] = job.MaxDeliver
		}
	}
	for part, deliveries := range lost {
		failure, found := noted[part]
		if !found {
			failure = Failure{Worker: "(unknown)", Reason: "each worker that had the part died or lost its connection"}
		}
		failure.Deliveries, failure.Final = deliveries, true
		failed[part] = failure
	}
	maps.DeleteFunc(noted, func(_ int, f Failure) bool { return !f.Final })
	maps.Copy(failed, noted)
	maps.DeleteFunc(failed, func(part int, _ Failure) bool { return done(part) })
	return failed, nil
}

// undeliveredParts returns how often each part was delivered that JetStream gave up and
// that is still in the queue.
func (f *Fleet) undeliveredParts(ctx context.Context, job *Job) (map[int]int, error) {
	parts := map[int]int{}
	err := f.retry(ctx, func(ctx context.Context) error {
		clear(parts)
		for at := uint64(1); ; {
			message, err := f.lost.GetMsg(ctx, at, jetstream.WithGetMsgSubject(advisories+"."+job.ID))
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				return nil
			}
			if err != nil {
				return err
			}
			at = message.Sequence + 1
			var advisory undelivered
			if json.Unmarshal(message.Data, &advisory) != nil {
				continue
			}
			queued, err := f.parts.GetMsg(ctx, advisory.Sequence)
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				continue // finished after all, or queued again
			}
			if err != nil {
				return err
			}
			var part Part
			if json.Unmarshal(queued.Data, &part) == nil && part.Job == job.ID {
				parts[part.Index] = advisory.Deliveries
			}
		}
	})
	return parts, err
}

// stuckParts returns the parts of a job that stay in the queue although workers may get
// none, and that are not finished: JetStream gave them up, and its advisory was lost.
func (f *Fleet) stuckParts(ctx context.Context, job *Job) (map[int]bool, error) {
	info, err := f.queueInfo(ctx, job)
	if err != nil || info == nil || info.NumPending > 0 || info.NumAckPending > 0 {
		return nil, err
	}
	var left *jetstream.StreamInfo
	err = f.retry(ctx, func(ctx context.Context) (err error) {
		left, err = f.parts.Info(ctx, jetstream.WithSubjectFilter(partsSubject+"."+job.ID+".*"))
		return err
	})
	if err != nil {
		return nil, err
	}
	stuck := map[int]bool{}
	for subject := range left.State.Subjects {
		part := Part{Job: job.ID, Index: partOfSubject(subject)}
		is, err := f.isStuck(ctx, part, subject, info.Delivered.Stream)
		if err != nil {
			return nil, err
		}
		if is {
			stuck[part.Index] = true
		}
	}
	return stuck, nil
}

// isStuck reports whether a part of an empty queue was delivered, which parts that were
// queued since are not, and is not finished.
func (f *Fleet) isStuck(ctx context.Context, part Part, subject string, delivered uint64) (bool, error) {
	var sequence uint64
	err := f.retry(ctx, func(ctx context.Context) error {
		message, err := f.parts.GetLastMsgForSubject(ctx, subject)
		if err != nil {
			return err
		}
		sequence = message.Sequence
		return nil
	})
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return false, nil
	}
	if err != nil || sequence > delivered {
		return false, err
	}
	done, err := f.isCommitted(ctx, part)
	return !done, err
}
