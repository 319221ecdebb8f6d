package server

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/engine"
)

// TestCalibratedServer checks that every API answers calibrated scores, and logits if a
// request asks for raw scores; and that /info describes the calibration.
func TestCalibratedServer(t *testing.T) {
	dir := tinyDir(t)
	calibration, err := open(t, engine.Config{Model: dir}).NewCalibration(0.5, -0.25)
	if err != nil {
		t.Fatal(err)
	}
	e := open(t, engine.Config{Model: dir, Calibration: &calibration})
	s := newServer(t, Config{Engine: e})
	documents := []string{"water", "a river and a city", "history"}
	ranking, err := e.Rerank(t.Context(), "the city", documents, engine.RerankOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range apis {
		for _, item := range answers(t, a.path, post(s, a.path, a.body("the city", documents...))) {
			logit := float64(ranking.Logits[item.index])
			if want := 1 / (1 + math.Exp(-(logit+0.25)/0.5)); math.Abs(item.score-want) > 1e-6 {
				t.Errorf("%s: score %v of logit %v, want %v", a.path, item.score, logit, want)
			}
		}
	}
	w := post(s, "/rerank", `{"query": "the city", "texts": ["water"], "raw_scores": true}`)
	if got := answers(t, "/rerank", w)[0].score; math.Abs(got-float64(ranking.Logits[0])) > 1e-5 {
		t.Errorf("raw score %v, want the logit %v", got, ranking.Logits[0])
	}
	var info struct {
		Calibration *struct{ Temperature, Shift float64 }
	}
	body := do(s, "GET", "/info").Body
	if err := json.Unmarshal(body.Bytes(), &info); err != nil || info.Calibration == nil || info.Calibration.Temperature != 0.5 || info.Calibration.Shift != -0.25 {
		t.Errorf("/info: %v in %s", err, body)
	}
	if plain := do(newServer(t, Config{}), "GET", "/info").Body.String(); strings.Contains(plain, "calibration") {
		t.Errorf("/info without calibration: %s", plain)
	}
}
