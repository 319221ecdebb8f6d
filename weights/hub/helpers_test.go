package hub

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mlxrank/mlxrank/weights/hub/hubtest"
)

const (
	model       = "org/name"
	partSize    = 64 << 10
	weightsSize = 5*partSize + 1234 // bytes
	token       = "hf_s3cretS3cretS3cret"
)

// testLimits sets times as short as a busy machine allows.
var testLimits = limits{
	connect: 5 * time.Second, answer: 5 * time.Second, idle: 5 * time.Second,
	tries: 4, backoff: time.Millisecond, maxWait: 3 * time.Second,
	part: partSize, perFile: 2, inAll: 4,
}

// randomBytes returns n bytes that are the same in every run.
func randomBytes(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 0))
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	return data
}

func modelFiles() map[string][]byte {
	return map[string][]byte{
		"config.json":                       []byte(`{"model_type":"bert"}`),
		"tokenizer.json":                    []byte(`{"model":{"type":"WordPiece"}}`),
		"tokenizer_config.json":             []byte(`{}`),
		"special_tokens_map.json":           []byte(`{"cls_token":"[CLS]"}`),
		"vocab.txt":                         []byte("[PAD]\n"),
		"config_sentence_transformers.json": []byte(`{"activation_fn":null}`),
		"model.safetensors":                 randomBytes(1, weightsSize),
		"pytorch_model.bin":                 []byte("pickled"),
		"onnx/model.onnx":                   []byte("onnx"),
		"README.md":                         []byte("# A model"),
		".gitattributes":                    []byte("*.bin"),
	}
}

// wanted lists the files of modelFiles that a pull downloads.
var wanted = []string{
	"config.json", "config_sentence_transformers.json", "model.safetensors",
	"special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt",
}

// start returns a hub with a model and a client with an empty cache.
func start(t *testing.T) (*hubtest.Server, *Client) {
	t.Helper()
	s := hubtest.New(t)
	s.Add(model, modelFiles())
	s.Use(t)
	return s, newClient(t)
}

func newClient(t *testing.T) *Client {
	t.Helper()
	c, err := FromEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	c.limits = testLimits
	return c
}

func toRef(t *testing.T, s string) Ref {
	t.Helper()
	ref, err := ParseRef(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// pullModel pulls a model and checks every byte of its files.
func pullModel(t *testing.T, s *hubtest.Server, c *Client, ref string) Snapshot {
	t.Helper()
	snapshot, err := c.Pull(t.Context(), toRef(t, ref), PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	checkSnapshot(t, s, c, snapshot)
	return snapshot
}

// checkSnapshot compares a snapshot with the hub, and checks that the cache has
// no other files.
func checkSnapshot(t *testing.T, s *hubtest.Server, c *Client, snapshot Snapshot) {
	t.Helper()
	repo := s.Repos[snapshot.Model]
	if to, ok := s.Renamed[snapshot.Model]; ok {
		repo = s.Repos[to]
	}
	var names []string
	for _, f := range snapshot.Files {
		names = append(names, f.Name)
		path := filepath.Join(snapshot.Dir, f.Name)
		data := readFile(t, path)
		if !bytes.Equal(data, repo.Files[f.Name]) {
			t.Errorf("%s: %d bytes that differ from the hub's %d", f.Name, len(data), len(repo.Files[f.Name]))
		}
		etag := hubtest.ETag(f.Name, repo.Files[f.Name])
		target, err := os.Readlink(path)
		if want := "../../blobs/" + etag; err != nil || target != want || f.Blob != etag {
			t.Errorf("%s links to %q, %v, want %q", f.Name, target, err, want)
		}
		if err := c.VerifyFile(t.Context(), snapshot, f); err != nil {
			t.Errorf("%s: %v", f.Name, err)
		}
	}
	if got := strings.Join(names, " "); got != strings.Join(wanted, " ") {
		t.Errorf("files %s, want %s", got, strings.Join(wanted, " "))
	}
	checkNoLeftovers(t, c)
}

// checkNoLeftovers rejects incomplete and misplaced files.
func checkNoLeftovers(t *testing.T, c *Client) {
	t.Helper()
	for _, path := range walk(t, c.cache) {
		if strings.HasSuffix(path, incomplete) || strings.HasSuffix(path, ".tmp") {
			t.Errorf("left over: %s", path)
		}
	}
}

// checkNoBrokenBlobs compares every blob with its name.
func checkNoBrokenBlobs(t *testing.T, c *Client) {
	t.Helper()
	for _, path := range walk(t, c.cache) {
		if name := filepath.Base(path); !strings.HasSuffix(name, incomplete) && filepath.Base(filepath.Dir(path)) == "blobs" {
			if err := checkBlob(t.Context(), path, name); err != nil && !errors.Is(err, errNoHash) {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
}

func walk(t *testing.T, dir string) []string {
	t.Helper()
	var paths []string
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err == nil && !entry.IsDir() {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o644)); err != nil {
		t.Fatal(err)
	}
}

// wantError checks that err contains every word and no secret.
func wantError(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", words)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("error %q lacks %q", err, word)
		}
	}
	for _, secret := range []string{token, hubtest.Signature, "Signature"} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("error %q shows %q", err, secret)
		}
	}
}

// weightsTag names the blob of the test model's weights.
func weightsTag() string { return hubtest.ETag(weightsFile, modelFiles()[weightsFile]) }
