package clitest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/mlxrank/mlxrank/weights/hub/hubtest"
	"github.com/mlxrank/mlxrank/weights/weightstest"
)

const HubModel = "org/name"

// StartHub returns a hub with the small model, and the directory that the model
// comes to lie in.
func StartHub(t *testing.T) (s *hubtest.Server, dir string) {
	t.Helper()
	s = hubtest.New(t)
	repo := s.Add(HubModel, hubtest.Dir(t, TinyModel(t)))
	repo.Revisions = []string{"v1"}
	return s, filepath.Join(s.Use(t), "models--org--name", "snapshots", repo.Commit)
}

// Edit rewrites a file of a model.
func Edit(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	weightstest.WriteFile(t, path, change(data))
}
