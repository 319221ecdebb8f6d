package hub

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/mlxrank/mlxrank/weights/hub/hubtest"
)

func TestPull(t *testing.T) {
	s, c := start(t)
	if _, err := c.Find(toRef(t, model)); !errors.Is(err, ErrNotCached) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before: %v", err)
	}
	snapshot := pullModel(t, s, c, model)
	repo := s.Repos[model]
	if snapshot.Model != model || snapshot.Commit != repo.Commit || !slices.Equal(snapshot.Revisions, []string{"main"}) ||
		snapshot.Dir != filepath.Join(c.Cache(), "models--org--name", "snapshots", repo.Commit) {
		t.Errorf("got %+v", snapshot)
	}
	if got := string(readFile(t, filepath.Join(c.Cache(), "models--org--name", "refs", "main"))); got != repo.Commit {
		t.Errorf("the ref holds %q, want %q without an end of line", got, repo.Commit)
	}
	if _, err := os.Stat(filepath.Join(c.Cache(), ".locks", "models--org--name", weightsTag()+".lock")); err != nil {
		t.Error(err)
	}
	parts := 0
	for _, r := range s.Requests() {
		if r.Content && r.Range != "" {
			parts++
		}
	}
	if want := weightsSize/partSize + 1; parts != want || s.Sent(weightsTag()) != weightsSize {
		t.Errorf("%d parts and %d bytes, want %d and %d", parts, s.Sent(weightsTag()), want, weightsSize)
	}
	s.Forget()
	if again := pullModel(t, s, c, model); s.Sent(weightsTag()) != 0 || again.Commit != snapshot.Commit {
		t.Errorf("a second pull fetched %d bytes", s.Sent(weightsTag()))
	}
}

// TestFindMakesNoConnection checks that finding a cached model sends no requests.
func TestFindMakesNoConnection(t *testing.T) {
	s, c := start(t)
	repo := s.Repos[model]
	repo.Revisions = []string{"v1", "refs/pr/3", repo.Commit[:7]}
	for _, revision := range append([]string{"main"}, repo.Revisions...) {
		pullModel(t, s, c, model+"@"+revision)
	}
	s.Forget()
	t.Setenv("HF_HUB_OFFLINE", "1")
	c = newClient(t)
	for _, revision := range append([]string{"main", repo.Commit}, repo.Revisions...) {
		snapshot, err := c.Find(toRef(t, model+"@"+revision))
		if err != nil {
			t.Fatalf("%s: %v", revision, err)
		}
		checkSnapshot(t, s, c, snapshot)
		want := append([]string{"main"}, repo.Revisions...)
		slices.Sort(want)
		if slices.Sort(snapshot.Revisions); !slices.Equal(snapshot.Revisions, want) {
			t.Errorf("revisions %q, want %q", snapshot.Revisions, want)
		}
	}
	if n := len(s.Requests()); n != 0 {
		t.Errorf("%d requests", n)
	}
	pullModel(t, s, c, model)
	_, err := c.Pull(t.Context(), toRef(t, "org/other"), PullOptions{})
	wantError(t, err, "HF_HUB_OFFLINE", "--model builtin", "--model DIR")
	if !errors.Is(err, ErrNotCached) || len(s.Requests()) != 0 {
		t.Errorf("%v after %d requests", err, len(s.Requests()))
	}
	for _, revision := range []string{"v2", "refs", "refs/pr"} {
		if _, err := c.Find(toRef(t, model+"@"+revision)); !errors.Is(err, ErrNotCached) {
			t.Errorf("%s: %v", revision, err)
		}
	}
}

// TestPullCommit checks that pulling a commit writes no ref.
func TestPullCommit(t *testing.T) {
	s, c := start(t)
	snapshot := pullModel(t, s, c, model+"@"+s.Repos[model].Commit)
	if _, err := os.Stat(filepath.Join(c.repo(model), "refs")); !errors.Is(err, fs.ErrNotExist) || len(snapshot.Revisions) != 0 {
		t.Errorf("refs: %v, revisions %q", err, snapshot.Revisions)
	}
}

// TestPullNewCommit checks that only changed files are fetched and that versions
// share the others.
func TestPullNewCommit(t *testing.T) {
	s, c := start(t)
	old := pullModel(t, s, c, model)
	files := maps.Clone(s.Repos[model].Files)
	files["config.json"] = []byte(`{"model_type":"bert","new":1}`)
	s.Add(model, files)
	s.Forget()
	if at, err := c.Find(toRef(t, model)); err != nil || at.Commit != old.Commit {
		t.Errorf("Find returns %s, %v, want the old commit", at.Commit, err)
	}
	fresh := pullModel(t, s, c, model)
	if fresh.Commit == old.Commit || s.Sent(weightsTag()) != 0 || s.Sent(hubtest.ETag("config.json", files["config.json"])) == 0 {
		t.Errorf("commit %s, %d bytes of weights", fresh.Commit, s.Sent(weightsTag()))
	}
	if all, err := c.List(); err != nil || len(all) != 2 {
		t.Errorf("%d snapshots, %v, want 2", len(all), err)
	}
}

// TestRefStaysUntilComplete checks that the ref names the old snapshot until the
// new one is complete.
func TestRefStaysUntilComplete(t *testing.T) {
	s, c := start(t)
	old := pullModel(t, s, c, model)
	files := maps.Clone(s.Repos[model].Files)
	files["model.safetensors"] = randomBytes(2, weightsSize)
	fresh := s.Add(model, files)
	s.SetContent(func(w http.ResponseWriter, _ *http.Request, _ []byte) bool {
		http.Error(w, "gone", http.StatusGone)
		return true
	})
	_, err := c.Pull(t.Context(), toRef(t, model), PullOptions{})
	wantError(t, err, "model.safetensors", "410 Gone")
	if at, err := c.Find(toRef(t, model)); err != nil || at.Commit != old.Commit {
		t.Errorf("at %s, %v, want %s", at.Commit, err, old.Commit)
	}
	if _, err := c.Find(toRef(t, model+"@"+fresh.Commit)); !errors.Is(err, ErrNotCached) {
		t.Errorf("the new commit: %v", err)
	}
}

func TestPullShards(t *testing.T) {
	s, c := start(t)
	files := modelFiles()
	delete(files, "model.safetensors")
	one, two := "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
	files[indexFile] = fmt.Appendf(nil, `{"metadata":{"total_size":1},"weight_map":{"a":%q,"b":%q,"c":%q}}`, one, two, one)
	files[one], files[two] = randomBytes(3, partSize+1), randomBytes(4, 100)
	files["model-00003-of-00002.safetensors"] = []byte("not named")
	s.Add("org/shards", files)
	snapshot, err := c.Pull(t.Context(), toRef(t, "org/shards"), PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, f := range snapshot.Files {
		names[f.Name] = true
	}
	if !names[indexFile] || !names[one] || !names[two] || names["model-00003-of-00002.safetensors"] || names["model.safetensors"] {
		t.Errorf("files %v", names)
	}
	if _, err := c.Find(toRef(t, "org/shards")); err != nil {
		t.Error(err)
	}
	if err := os.Remove(filepath.Join(snapshot.Dir, two)); err != nil {
		t.Fatal(err)
	}
	_, err = c.Find(toRef(t, "org/shards"))
	wantError(t, err, two)
	delete(files, two)
	s.Add("org/shards", files)
	_, err = c.Pull(t.Context(), toRef(t, "org/shards"), PullOptions{})
	wantError(t, err, indexFile, two, "does not have")
}

// TestUnsuitableRepository checks that an unsuitable repository is refused before any large
// download.
func TestUnsuitableRepository(t *testing.T) {
	s, c := start(t)
	without := func(names ...string) map[string][]byte {
		files := modelFiles()
		for _, name := range names {
			delete(files, name)
		}
		return files
	}
	for name, test := range map[string]struct {
		files map[string][]byte
		words []string
	}{
		"no config":    {without("config.json"), []string{"config.json"}},
		"no tokenizer": {without("tokenizer.json"), []string{"tokenizer.json", "save_pretrained", "--model DIR"}},
		"pickled":      {without("model.safetensors"), []string{"model.safetensors", "pytorch_model.bin", "safe_serialization"}},
		"empty":        {nil, []string{"config.json"}},
		"no weights":   {without("model.safetensors", "pytorch_model.bin"), []string{"no weights"}},
	} {
		s.Add("org/unfit", test.files)
		_, err := c.Pull(t.Context(), toRef(t, "org/unfit"), PullOptions{})
		if wantError(t, err, test.words...); err != nil && len(walk(t, c.Cache())) > 0 {
			t.Errorf("%s: something was downloaded", name)
		}
	}
	s.Forget()
	_, err := c.Pull(t.Context(), toRef(t, model), PullOptions{Check: func(config []byte) error {
		return fmt.Errorf("not this: %s", config)
	}})
	if wantError(t, err, "config.json", "not this", "bert"); s.Sent(weightsTag()) > 0 {
		t.Error("the weights were downloaded")
	}
}

// TestProgress checks what the documentation of Progress promises.
func TestProgress(t *testing.T) {
	s, c := start(t)
	var got []Progress
	if _, err := c.Pull(t.Context(), toRef(t, model), PullOptions{Progress: func(p Progress) { got = append(got, p) }}); err != nil {
		t.Fatal(err)
	}
	for i, p := range got[:len(wanted)] {
		if p.Done != 0 || p.Model != model || p.Total != int64(len(s.Repos[model].Files[p.File])) {
			t.Errorf("report %d: %+v", i, p)
		}
	}
	last, finished := map[string]int64{}, map[string]int{}
	for _, p := range got {
		if p.Done < last[p.File] {
			t.Errorf("%+v after %d", p, last[p.File])
		}
		last[p.File] = p.Done
		if p.Done == p.Total {
			finished[p.File]++
		}
	}
	for _, name := range wanted {
		if finished[name] != 1 {
			t.Errorf("%s is reported complete %d times", name, finished[name])
		}
	}
	got = nil
	if _, err := c.Pull(t.Context(), toRef(t, model), PullOptions{Progress: func(p Progress) { got = append(got, p) }}); err != nil || len(got) > 0 {
		t.Errorf("pulling a cached model reported progress: %v, %v", got, err)
	}
}

// TestBadMetadata checks that metadata that cannot name a blob is refused.
func TestBadMetadata(t *testing.T) {
	for _, test := range []struct {
		name, key, value string
		words            []string
	}{
		{"no ETag", "ETag", "", []string{`the ETag ""`}},
		{"path as an ETag", "X-Linked-Etag", `"../../../../etc/passwd"`, []string{"ETag", "a valid file name"}},
		{"part of a blob as an ETag", "X-Linked-Etag", `"abc.incomplete"`, []string{"ETag"}},
		{"no size", "X-Linked-Size", "many", []string{"no size"}},
		{"negative size", "X-Linked-Size", "-5", []string{"no size"}},
		{"larger than the disk", "X-Linked-Size", strconv.Itoa(1 << 60), []string{"full", "HF_HUB_CACHE", "are free"}},
		{"another commit", "X-Repo-Commit", "beef", []string{"commit beef"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, c := start(t)
			s.Bare = true
			s.SetHub(func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != http.MethodHead || !strings.HasSuffix(r.URL.Path, ".safetensors") {
					return false
				}
				for key, value := range map[string]string{"X-Linked-Etag": weightsTag(), "X-Linked-Size": strconv.Itoa(weightsSize),
					"ETag": `"of-the-redirect"`, "Location": "/elsewhere", test.key: test.value} {
					w.Header().Set(key, value)
				}
				if test.value == "" {
					w.Header().Del("X-Linked-Etag")
					w.WriteHeader(http.StatusOK)
				} else {
					w.WriteHeader(http.StatusFound)
				}
				return true
			})
			_, err := c.Pull(t.Context(), toRef(t, model), PullOptions{})
			wantError(t, err, test.words...)
		})
	}
}

// TestCancelled cancels a pull and checks that the next one uses its bytes.
func TestCancelled(t *testing.T) {
	s, c := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	release := make(chan struct{})
	var once sync.Once
	s.SetContent(func(w http.ResponseWriter, r *http.Request, blob []byte) bool {
		if len(blob) != weightsSize {
			return false
		}
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %s/%d", strings.TrimPrefix(r.Header.Get("Range"), "bytes="), weightsSize))
		w.Header().Set("Content-Length", strconv.Itoa(partSize))
		w.WriteHeader(http.StatusPartialContent)
		if _, err := w.Write(blob[:1000]); err != nil {
			panic(http.ErrAbortHandler)
		}
		w.(http.Flusher).Flush()
		<-release
		return true
	})
	var have int64
	_, err := c.Pull(ctx, toRef(t, model), PullOptions{Progress: func(p Progress) {
		if p.File == weightsFile && p.Done > 0 {
			have = p.Done
			once.Do(cancel)
		}
	}})
	close(release)
	if !errors.Is(err, context.Canceled) || have == 0 {
		t.Fatalf("%v after %d bytes", err, have)
	}
	b := blob{c: c, path: filepath.Join(c.repo(model), "blobs", weightsTag())}
	kept, err := b.have()
	if err != nil || kept == 0 {
		t.Errorf("%d bytes are kept, %v", kept, err)
	}
	checkNoBrokenBlobs(t, c)
	if _, err := c.Find(toRef(t, model)); !errors.Is(err, ErrNotCached) {
		t.Errorf("after the interrupt: %v", err)
	}
}

// TestLink checks that a pull replaces a file or another link at the path of a
// snapshot's link.
func TestLink(t *testing.T) {
	s, c := start(t)
	snapshot := pullModel(t, s, c, model)
	path := func(name string) string { return filepath.Join(snapshot.Dir, name) }
	steps := []error{
		os.Remove(path("vocab.txt")), os.WriteFile(path("vocab.txt"), []byte("x"), 0o644),
		os.Remove(path("config.json")), os.Symlink("/etc/passwd", path("config.json")),
		os.Remove(path("model.safetensors")),
	}
	if err := errors.Join(steps...); err != nil {
		t.Fatal(err)
	}
	pullModel(t, s, c, model)
}
