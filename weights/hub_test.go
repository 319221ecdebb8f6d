package weights

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/mlxrank/mlxrank/weights/hub/hubtest"
	"github.com/mlxrank/mlxrank/weights/weightstest"
)

const hubModel = "org/name"

// startHub starts a hub with the tiny model and returns it with an empty cache.
func startHub(t *testing.T) (*hubtest.Server, string) {
	t.Helper()
	s := hubtest.New(t)
	s.Add(hubModel, hubtest.Dir(t, tinyDir(t)))
	return s, s.Use(t)
}

func TestOpenFromHub(t *testing.T) {
	s, cache := startHub(t)
	want := openModel(t, tinyDir(t), Options{})
	reports := 0
	m := openModel(t, hubModel, Options{Progress: func(p Progress) {
		if p.Model == hubModel {
			reports++
		}
	}})
	dir := filepath.Join(cache, "models--org--name", "snapshots", s.Repos[hubModel].Commit)
	if m.Ref != hubModel || m.Dir != dir || !reflect.DeepEqual(m.Config, want.Config) || len(m.Tensors) != len(want.Tensors) || reports < 4 {
		t.Errorf("ref %q, dir %s, %+v, %d tensors, %d reports", m.Ref, m.Dir, m.Config, len(m.Tensors), reports)
	}
	s.Forget()
	openModel(t, hubModel, Options{})
	openModel(t, hubModel+"@"+s.Repos[hubModel].Commit, Options{NoDownload: true})
	if n := len(s.Requests()); n > 0 {
		t.Errorf("opening a cached model made %d requests, want 0", n)
	}
}

// TestOpenModulesFromHub opens a model whose head is modules, and opens it again after
// a module's file is lost.
func TestOpenModulesFromHub(t *testing.T) {
	s := hubtest.New(t)
	s.Add(hubModel, hubtest.Dir(t, stackDir(t, tinyStack(), nil)))
	s.Use(t)
	want := openModel(t, hubModel, Options{})
	if len(want.Config.Head) != 3 || want.Files[filepath.Join(want.Dir, "2_Dense", configFile)] == "" {
		t.Errorf("head %+v, files %v", want.Config.Head, want.Files)
	}
	s.Forget()
	lost := filepath.Join(want.Dir, "2_Dense", configFile)
	if err := os.Remove(lost); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), hubModel, Options{NoDownload: true})
	wantError(t, err, "lacks 2_Dense/config.json")
	if m := openModel(t, hubModel, Options{}); !reflect.DeepEqual(m.Config, want.Config) || !exists(filepath.Dir(lost), configFile) {
		t.Errorf("config %+v, want %+v", m.Config, want.Config)
	}
}

// TestOpenRenamed checks that a model in the cache under its old name opens without a
// connection under the new one, and the reverse.
func TestOpenRenamed(t *testing.T) {
	for name, old := range renamed {
		for _, ids := range [][2]string{{old, name}, {name, old}} {
			s := hubtest.New(t)
			s.Add(ids[0], hubtest.Dir(t, tinyDir(t)))
			s.Use(t)
			want := openModel(t, ids[0], Options{})
			t.Setenv("HF_HUB_OFFLINE", "1")
			if m := openModel(t, ids[1], Options{}); m.Dir != want.Dir || m.Ref != ids[1] {
				t.Errorf("%s opens %s as %s, want %s", ids[1], m.Dir, m.Ref, want.Dir)
			}
			t.Setenv("HF_HUB_OFFLINE", "")
		}
	}
	if _, ok := renamed[Default]; !ok {
		t.Errorf("the default %s has no old name", Default)
	}
}

func TestOpenNoDownload(t *testing.T) {
	s, cache := startHub(t)
	_, err := Open(t.Context(), hubModel, Options{NoDownload: true})
	wantError(t, err, `"org/name"`, "not downloaded yet", cache)
	if !errors.Is(err, ErrNotDownloaded) || !errors.Is(err, fs.ErrNotExist) || len(s.Requests()) > 0 {
		t.Errorf("%v after %d requests", err, len(s.Requests()))
	}
	t.Setenv("HF_HUB_OFFLINE", "1")
	_, err = Open(t.Context(), hubModel, Options{})
	wantError(t, err, "HF_HUB_OFFLINE", "--model builtin", "--model DIR")
	t.Setenv("HF_HUB_OFFLINE", "")
	t.Setenv("HF_ENDPOINT", "nonsense")
	_, err = Open(t.Context(), hubModel, Options{})
	wantError(t, err, "HF_ENDPOINT")
}

// TestOpenUnsupportedFromHub checks that the weights of an unsupported model are
// not downloaded.
func TestOpenUnsupportedFromHub(t *testing.T) {
	s, _ := startHub(t)
	files := s.Repos[hubModel].Files
	files[configFile] = configWith(t, map[string]any{"model_type": "llama"})
	_, err := Open(t.Context(), hubModel, Options{})
	wantError(t, err, `"org/name"`, "config.json", `model_type "llama" is not supported`)
	if n := s.Sent(hubtest.ETag(weightsFile, files[weightsFile])); n > 0 {
		t.Errorf("%d bytes of weights were downloaded, want 0", n)
	}
}

// TestOpenBadModelFromHub checks that the error names the reference and the file.
func TestOpenBadModelFromHub(t *testing.T) {
	s, cache := startHub(t)
	s.Repos[hubModel].Files[weightsFile] = []byte("version https://git-lfs.github.com/spec/v1")
	_, err := Open(t.Context(), hubModel, Options{})
	wantError(t, err, `model "org/name"`, cache, weightsFile, "Git LFS pointer")
}

// TestDirectoryBeforeHub checks that a directory with a model's name is preferred
// to the hub's model.
func TestDirectoryBeforeHub(t *testing.T) {
	s, _ := startHub(t)
	t.Chdir(t.TempDir())
	weightstest.Write(t, hubModel, tinySpec())
	if m := openModel(t, hubModel, Options{}); m.Dir != hubModel {
		t.Errorf("the model is read from %s, want the directory", m.Dir)
	}
	if n := len(s.Requests()); n > 0 {
		t.Errorf("%d requests, want 0", n)
	}
	if err := errors.Join(os.RemoveAll(hubModel), os.WriteFile(hubModel, nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), hubModel, Options{})
	wantError(t, err, "is not a directory")
}

func TestOpenCancelled(t *testing.T) {
	startHub(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, hubModel, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
