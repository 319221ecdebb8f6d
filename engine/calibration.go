package engine

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/mlxrank/mlxrank/internal/atomicfile"
	"github.com/mlxrank/mlxrank/weights"
)

// maxCalibration is the maximum size of a file of a calibration, in bytes.
const maxCalibration = 1 << 20

// ErrCalibration reports a calibration that cannot be used, or not with this model.
var ErrCalibration = errors.New("calibration")

// A Calibration turns the logits of one model into probabilities of relevance:
//
//	score = sigmoid((logit - Shift) / Temperature)
//
// The order of documents stays the same. mlxrank eval fits one to judgements.
type Calibration struct {
	Temperature float64 `json:"temperature"` // from 1e-6 to 1e6; 1 changes nothing
	Shift       float64 `json:"shift"`       // logit whose score is 0.5, from -1e6 to 1e6

	// Model and Fingerprint name the model that the logits came from. If both are given,
	// only the fingerprint counts, so that a copy of the model may have another name.
	Model       string `json:"model"`
	Fingerprint string `json:"fingerprint,omitempty"` // of the weights and the tokenizer, the adapter included
	Adapter     string `json:"adapter,omitempty"`

	// The rest says how the calibration was made.
	DType      DType   `json:"dtype,omitempty"`
	MaxLength  int     `json:"max_length,omitempty"` // tokens of a pair
	Pairs      int     `json:"pairs,omitempty"`      // judged pairs
	Relevant   int     `json:"relevant,omitempty"`   // among them
	LossBefore float64 `json:"log_loss_before,omitempty"`
	LossAfter  float64 `json:"log_loss_after,omitempty"`
}

// ReadCalibration reads a calibration from a file.
func ReadCalibration(path string) (Calibration, error) {
	file, err := os.Open(path)
	if err != nil {
		return Calibration{}, fmt.Errorf("%w: %w", ErrCalibration, err)
	}
	data, err := io.ReadAll(io.LimitReader(file, maxCalibration+1))
	if err = errors.Join(err, file.Close()); err != nil {
		return Calibration{}, fmt.Errorf("%w: %w", ErrCalibration, err)
	}
	c, err := parseCalibration(data)
	if err != nil {
		return Calibration{}, fmt.Errorf("%w %s: %w", ErrCalibration, path, err)
	}
	return c, nil
}

func parseCalibration(data []byte) (Calibration, error) {
	if len(data) > maxCalibration {
		return Calibration{}, fmt.Errorf("more than %d bytes; expected the small JSON file of mlxrank eval", maxCalibration)
	}
	var c Calibration
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields() // a misspelt field would change scores
	if err := decoder.Decode(&c); err != nil {
		return Calibration{}, explainJSON(err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return Calibration{}, errors.New("text after the JSON object; expected the end of the file")
	}
	var given struct{ Temperature, Shift *float64 }
	if err := json.Unmarshal(data, &given); err != nil {
		return Calibration{}, explainJSON(err)
	}
	switch {
	case given.Temperature == nil:
		return Calibration{}, errors.New("temperature is missing; expected an object with " + calibrationFields)
	case given.Shift == nil:
		return Calibration{}, errors.New("shift is missing; expected an object with " + calibrationFields)
	}
	return c, c.check()
}

// calibrationFields lists the fields that a file must have.
const calibrationFields = "temperature, shift and model"

// explainJSON describes an error of JSON without the names of Go's types.
func explainJSON(err error) error {
	var mistyped *json.UnmarshalTypeError
	switch {
	case errors.Is(err, io.EOF):
		return errors.New("the file is empty; expected an object with " + calibrationFields)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the JSON ends too early; the file may be truncated")
	case !errors.As(err, &mistyped):
		return fmt.Errorf("%s; expected an object with %s", strings.TrimPrefix(err.Error(), "json: "), calibrationFields)
	case mistyped.Field == "":
		return fmt.Errorf("the file is a JSON %s; expected an object with %s", mistyped.Value, calibrationFields)
	case mistyped.Type.Kind() == reflect.String:
		return fmt.Errorf("%s is a JSON %s; expected a string", mistyped.Field, mistyped.Value)
	}
	return fmt.Errorf("%s is a JSON %s; expected a number in range", mistyped.Field, mistyped.Value)
}

// Limits of a calibration. Beyond them, all scores would be 0, 0.5 or 1.
const (
	minTemperature = 1e-6
	maxTemperature = 1e6
	maxShift       = 1e6
)

// check rejects numbers that make no probability, and a calibration of no model.
func (c *Calibration) check() error {
	if !(c.Temperature >= minTemperature && c.Temperature <= maxTemperature) {
		return fmt.Errorf("temperature is %v; expected a number from %v to %v", c.Temperature, minTemperature, maxTemperature)
	}
	if !(math.Abs(c.Shift) <= maxShift) {
		return fmt.Errorf("shift is %v; expected a number from %v to %v", c.Shift, -maxShift, maxShift)
	}
	if c.Model == "" && c.Fingerprint == "" {
		return errors.New("model and fingerprint are missing; add one, because a calibration holds for one model only")
	}
	return nil
}

// Write writes the calibration to a file in one step.
func (c Calibration) Write(path string) error {
	if err := c.check(); err != nil {
		return fmt.Errorf("%w: %w", ErrCalibration, err)
	}
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCalibration, err)
	}
	return atomicfile.Write(path, append(data, '\n'), 0o666)
}

// Score returns the probability of a logit. A nil calibration returns the sigmoid.
func (c *Calibration) Score(logit float64) float64 {
	if c == nil {
		return sigmoid(logit)
	}
	return sigmoid((logit - c.Shift) / c.Temperature)
}

// NewCalibration returns a calibration for the engine's model.
func (e *Engine) NewCalibration(temperature, shift float64) (Calibration, error) {
	if err := checkCalibrated(e.info.Model, len(e.info.Labels)); err != nil {
		return Calibration{}, err
	}
	fingerprint, err := e.fingerprint()
	if err != nil {
		return Calibration{}, fmt.Errorf("%w: %w", ErrCalibration, err)
	}
	c := Calibration{
		Temperature: temperature, Shift: shift, Model: e.info.Model, Fingerprint: fingerprint, Adapter: e.info.Adapter,
		DType: e.info.DType, MaxLength: e.info.MaxLength,
	}
	if err := c.check(); err != nil {
		return Calibration{}, fmt.Errorf("%w: %w", ErrCalibration, err)
	}
	return c, nil
}

// checkCalibrated rejects a model whose scores are no sigmoid of one logit.
func checkCalibrated(ref string, labels int) error {
	if labels > 1 {
		return fmt.Errorf("%w: model %q has %d labels; only the score of a model with one label can be calibrated", ErrCalibration, ref, labels)
	}
	return nil
}

// checkCalibration rejects a calibration that no model can use.
func (cfg *Config) checkCalibration() error {
	c := cfg.Calibration
	if c == nil {
		return nil
	}
	if err := c.check(); err != nil {
		return fmt.Errorf("%w: %w", ErrCalibration, err)
	}
	if !slices.Contains([]Activation{"", ActivationAuto, SigmoidScores}, cfg.Activation) {
		return fmt.Errorf("%w: it makes scores by the sigmoid, and the activation is %s; omit one of them, or choose activation sigmoid", ErrCalibration, cfg.Activation)
	}
	return nil
}

// useCalibration makes scores by the calibration, if any, after checking that it is for
// the model.
func (e *Engine) useCalibration(c *Calibration, model *weights.Model, maxLength int) error {
	e.fingerprint, e.modelHash = model.ContentHash, hashModel(model)
	if c == nil {
		return nil
	}
	if err := checkCalibrated(model.Ref, model.Config.Labels); err != nil {
		return err
	}
	if err := c.checkModel(model); err != nil {
		return err
	}
	if c.MaxLength > 0 && c.MaxLength != maxLength {
		e.log.Warn().Int("fitted_max_length", c.MaxLength).Int("max_length", maxLength).
			Msg("the calibration was fitted with another maximum length; scores of long pairs may be less exact")
	}
	used := *c
	e.scorer.calibration, e.info.Calibration = &used, &used
	e.log.Info().Float64("temperature", c.Temperature).Float64("shift", c.Shift).Msg("calibrated scores")
	return nil
}

// checkModel rejects a calibration of another model.
func (c *Calibration) checkModel(model *weights.Model) error {
	if c.Fingerprint == "" {
		if c.Model == model.Ref {
			return nil
		}
		return fmt.Errorf("%w: it is for model %q, and the model is %q; fit another one with mlxrank eval", ErrCalibration, c.Model, model.Ref)
	}
	found, err := model.ContentHash()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCalibration, err)
	}
	if c.Fingerprint != found {
		return fmt.Errorf("%w: it is for model %q with fingerprint %s, and the model is %q with fingerprint %s; fit another one with mlxrank eval",
			ErrCalibration, cmp.Or(c.Model, "(unnamed)"), c.Fingerprint, model.Ref, found)
	}
	return nil
}
