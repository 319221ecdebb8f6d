package engine

import (
	"testing"
)

func TestModelHash(t *testing.T) {
	hash := func(change func(map[string]any)) string {
		e := openTinyEngine(t, Config{Model: tinyDir(t, change)})
		h, err := e.ModelHash()
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	first := hash(nil)
	if copied := hash(nil); copied != first {
		t.Errorf("a copy in another folder has hash %s, expected %s", copied, first)
	}
	if other := hash(func(config map[string]any) { config["layer_norm_eps"] = 1e-6 }); other == first {
		t.Error("a model with another epsilon has the same hash")
	}
}
