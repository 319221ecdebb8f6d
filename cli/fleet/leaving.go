package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mlxrank/mlxrank/cli/internal/scored"
	"github.com/mlxrank/mlxrank/fleet"
)

// abandonTimeout bounds how long a failed command waits for the server.
const abandonTimeout = 10 * time.Second

// abandon cancels a job that attach could not continue, so that its data do not stay: its
// output is a stream, or it was not created.
func (r *submission) abandon(ctx context.Context, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abandonTimeout)
	defer cancel()
	if errors.Is(err, fleet.ErrCancelled) {
		return err
	}
	if failed := r.fleet.Cancel(ctx, r.job.ID); failed != nil {
		return fmt.Errorf("%w; the job was not cancelled: %w; mlxrank fleet cancel %s removes its data", err, failed, r.job.ID)
	}
	return err
}

// explain adds how to go on to an error.
func (r *submission) explain(ctx context.Context, err error) error {
	attach := fmt.Sprintf("mlxrank fleet attach %s", r.job.ID)
	var part *fleet.PartError
	switch {
	case errors.As(err, &part):
		return fmt.Errorf("%w; remove the cause and run mlxrank fleet retry %s, then %s", err, r.job.ID, attach)
	case errors.Is(err, fleet.ErrCancelled):
		return err
	case ctx.Err() != nil:
		return &leftError{err, fmt.Sprintf("the job goes on; take it up again with %s", attach)}
	}
	return fmt.Errorf("%w; %s goes on with the job, and mlxrank fleet cancel %s ends it", err, attach, r.job.ID)
}

// leftError reports an interrupt, and how to go on.
type leftError struct {
	err    error
	advice string
}

func (e *leftError) Error() string { return e.err.Error() + "; " + e.advice }

func (e *leftError) Unwrap() error { return e.err }

// Advice returns how to go on.
func (e *leftError) Advice() string { return e.advice }

// errChanged reports an input that is no longer the submitted one. It is not
// input.ErrChanged, for which the finished lines would be removed.
var errChanged = errors.New("the file is not the one that was submitted; restore it")

// close ends the output. Nothing is kept of a cancelled job.
func (r *submission) close(err error) error {
	if errors.Is(err, fleet.ErrCancelled) {
		return errors.Join(err, scored.Discard(r.out))
	}
	var kept *scored.KeptError
	if closed := r.out.Close(err); !errors.As(closed, &kept) {
		return closed
	}
	return err // which names attach, and not --resume
}
