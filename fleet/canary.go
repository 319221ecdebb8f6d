package fleet

import (
	"errors"
	"fmt"
	"math"

	"github.com/mlxrank/mlxrank/engine"
)

// A Canary is pairs with the submitter's scores. A worker is admitted to a job if its
// own scores agree.
type Canary struct {
	Pairs  []engine.Pair
	Scores []Score
}

// canaryObject is the object of a canary.
type canaryObject struct {
	Pairs  [][2]string `json:"pairs"`
	Scores []float32   `json:"scores"`
	Logits []float32   `json:"logits"`
}

func encodeCanary(c Canary) ([]byte, error) {
	if len(c.Pairs) == 0 || len(c.Pairs) != len(c.Scores) {
		return nil, fmt.Errorf("a canary of %d pairs and %d scores; expected at least one, and as many", len(c.Pairs), len(c.Scores))
	}
	if err := checkScores(c.Scores); err != nil {
		return nil, fmt.Errorf("the canary: %w", err)
	}
	var object canaryObject
	for i, pair := range c.Pairs {
		if c.Scores[i].Err != "" {
			return nil, fmt.Errorf("the canary: pair %d: %s", i, c.Scores[i].Err)
		}
		object.Pairs = append(object.Pairs, [2]string{pair.Query, pair.Document})
		object.Scores, object.Logits = append(object.Scores, c.Scores[i].Score), append(object.Logits, c.Scores[i].Logit)
	}
	return pack(object)
}

func decodeCanary(data []byte) (Canary, error) {
	var object canaryObject
	if err := unpack(data, &object); err != nil {
		return Canary{}, err
	}
	if len(object.Pairs) == 0 || len(object.Scores) != len(object.Pairs) || len(object.Logits) != len(object.Pairs) {
		return Canary{}, errors.New("the canary has not one score for each pair")
	}
	var c Canary
	for i, pair := range object.Pairs {
		c.Pairs = append(c.Pairs, engine.Pair{Query: pair[0], Document: pair[1]})
		c.Scores = append(c.Scores, Score{Score: object.Scores[i], Logit: object.Logits[i]})
	}
	return c, nil
}

// A RefusedError reports why a worker is not admitted to a job.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return e.Reason }

func refusef(format string, v ...any) error { return &RefusedError{fmt.Sprintf(format, v...)} }

// checkIdentity refuses a worker whose scores would not be the submitter's. With a
// tolerance, the device and the number format may differ: the canary decides.
func checkIdentity(job *Job, own Identity) error {
	want := job.Identity
	switch {
	case own.Program != want.Program:
		return refusef("mlxrank here is %s, and the job needs %s; install the same version", own.Program, want.Program)
	case own.Model != want.Model:
		return refusef("model %s has contents %s here, and the job needs %s; give the worker the job's revision", job.Settings.Model, own.Model, want.Model)
	case job.Tolerance > 0:
		return nil
	case own.DType != want.DType:
		return refusef("the number format is %s here, and the job needs %s; submit with --dtype, or with --tolerance for a mixed fleet", own.DType, want.DType)
	case own.Class != want.Class:
		return refusef("the device class is %q here, and the job needs %q; submit with --tolerance for a mixed fleet", own.Class, want.Class)
	}
	return nil
}

// checkCanary refuses a worker whose scores of the canary differ from the submitter's.
func checkCanary(job *Job, canary Canary, own []Score) error {
	if len(own) != len(canary.Pairs) {
		return refusef("the canary has %d scores here, expected %d", len(own), len(canary.Pairs))
	}
	for i, s := range own {
		if s.Err != "" {
			return refusef("canary pair %d cannot be scored here: %s", i, s.Err)
		}
		difference := math.Abs(float64(s.Logit) - float64(canary.Scores[i].Logit))
		if !(difference <= job.Tolerance) { // also if it is NaN
			return refusef("canary pair %d has logit %v here, and the submitter's is %v: the difference %.3g is above the tolerance %.3g",
				i, s.Logit, canary.Scores[i].Logit, difference, job.Tolerance)
		}
		if job.Tolerance == 0 && s.Score != canary.Scores[i].Score {
			return refusef("canary pair %d has score %v here, and the submitter's is %v", i, s.Score, canary.Scores[i].Score)
		}
	}
	return nil
}
