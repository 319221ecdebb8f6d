package hub

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/weights/hub/hubtest"
)

// stackFiles returns a CrossEncoder of several modules, with files that no module needs.
func stackFiles() map[string][]byte {
	files := modelFiles()
	maps.Copy(files, map[string][]byte{
		"config_sentence_transformers.json": []byte(`{"model_type":"CrossEncoder"}`),
		"sentence_bert_config.json":         []byte(`{"transformer_task":"feature-extraction"}`),
		"modules.json": []byte(`[{"path":"","type":"sentence_transformers.base.modules.transformer.Transformer"},
			{"path":"1_Pooling","type":"sentence_transformers.models.Pooling"},
			{"path":"2_Dense","type":"sentence_transformers.models.Dense"},
			{"path":"3_Dropout","type":"sentence_transformers.models.Dropout"},
			{"path":"heads/4_LayerNorm","type":"sentence_transformers.models.LayerNorm"}]`),
		"1_Pooling/config.json":               []byte(`{"pooling_mode":"cls"}`),
		"1_Pooling/README.md":                 []byte("pooling"),
		"2_Dense/config.json":                 []byte(`{"in_features":8}`),
		"2_Dense/model.safetensors":           []byte("tensors of the Dense"),
		"2_Dense/pytorch_model.bin":           []byte("pickled"),
		"3_Dropout/config.json":               []byte(`{"dropout":0.1}`),
		"heads/4_LayerNorm/config.json":       []byte(`{"dimension":8}`),
		"heads/4_LayerNorm/model.safetensors": []byte("tensors of the LayerNorm"),
		"5_Unused/config.json":                []byte(`{}`),
	})
	return files
}

// moduleNames lists the files that a pull of stackFiles adds.
var moduleNames = []string{
	"1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors", "heads/4_LayerNorm/config.json", "heads/4_LayerNorm/model.safetensors",
}

// TestPullModules checks that the files of modules are pulled, and no others.
func TestPullModules(t *testing.T) {
	for _, links := range []bool{true, false} {
		s, _ := start(t)
		s.Add(model, stackFiles())
		if !links {
			t.Setenv("HF_HUB_DISABLE_SYMLINKS", "1")
		}
		c := newClient(t)
		snapshot, err := c.Pull(t.Context(), toRef(t, model), PullOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, f := range snapshot.Files {
			names = append(names, f.Name)
			data := readFile(t, filepath.Join(snapshot.Dir, f.Name))
			if string(data) != string(s.Repos[model].Files[f.Name]) {
				t.Errorf("%s differs", f.Name)
			}
			if err := c.VerifyFile(t.Context(), snapshot, f); err != nil {
				t.Errorf("%s: %v", f.Name, err)
			}
		}
		want := slices.Concat(wanted, moduleNames, []string{"modules.json", "sentence_bert_config.json"})
		slices.Sort(want)
		if slices.Sort(names); !slices.Equal(names, want) {
			t.Errorf("files %q, want %q", names, want)
		}
		s.Forget()
		if _, err := c.Pull(t.Context(), toRef(t, model), PullOptions{}); err != nil || s.Sent(hubtest.ETag("x.safetensors", stackFiles()["2_Dense/model.safetensors"])) > 0 {
			t.Errorf("a second pull: %v, or it fetched the modules again", err)
		}
		for _, name := range moduleNames { // as an older version would have left the cache
			path := filepath.Join(snapshot.Dir, name)
			if err := os.Rename(path, path+".away"); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Find(toRef(t, model)); !errors.Is(err, ErrNotCached) || !strings.Contains(err.Error(), "lacks "+name) {
				t.Errorf("without %s: %v", name, err)
			}
			if err := os.Rename(path+".away", path); err != nil {
				t.Fatal(err)
			}
		}
		removed, err := c.Remove(toRef(t, model))
		if err != nil || !removed.All {
			t.Errorf("removed %+v, %v", removed, err)
		}
		checkNoLeftovers(t, c)
	}
}

// TestPullModulesOfAnEncoder checks that the modules of a SentenceTransformer, whose
// encoder alone is used, are not pulled.
func TestPullModulesOfAnEncoder(t *testing.T) {
	s, c := start(t)
	files := stackFiles()
	files["config_sentence_transformers.json"] = []byte(`{"model_type":"SentenceTransformer"}`)
	s.Add(model, files)
	snapshot, err := c.Pull(t.Context(), toRef(t, model), PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range snapshot.Files {
		if strings.Contains(f.Name, "/") {
			t.Errorf("%s was pulled", f.Name)
		}
	}
}

// TestPullModulesMissing checks that a file that a module lacks is named before the
// weights are downloaded.
func TestPullModulesMissing(t *testing.T) {
	s, c := start(t)
	files := stackFiles()
	delete(files, "2_Dense/model.safetensors")
	s.Add(model, files)
	_, err := c.Pull(t.Context(), toRef(t, model), PullOptions{})
	wantError(t, err, "the repository has no 2_Dense/model.safetensors, which modules.json needs")
	if s.Sent(weightsTag()) > 0 {
		t.Error("the weights were downloaded")
	}
}

// FuzzModuleFiles checks that files of modules are below the model's folder.
func FuzzModuleFiles(f *testing.F) {
	f.Add(stackFiles()["modules.json"])
	f.Add([]byte(`[{"path":"../../x","type":"a.Dense"},{"path":"/etc","type":"a.Pooling"}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, name := range moduleFiles(data, []byte(`{"model_type":"CrossEncoder"}`)) {
			if !filepath.IsLocal(name) || !validName(name) {
				t.Errorf("the file %q", name)
			}
		}
	})
}
