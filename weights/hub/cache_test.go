package hub

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mlxrank/mlxrank/weights/hub/hubtest"
)

// two pulls two commits of the model, which differ in config.json alone.
func two(t *testing.T) (s *hubtest.Server, c *Client, old, fresh Snapshot) {
	t.Helper()
	s, c = start(t)
	s.Repos[model].Revisions = []string{"v1"}
	pullModel(t, s, c, model+"@v1")
	old = pullModel(t, s, c, model)
	files := maps.Clone(s.Repos[model].Files)
	files["config.json"] = []byte(`{"model_type":"bert","new":1}`)
	s.Add(model, files)
	return s, c, old, pullModel(t, s, c, model)
}

func TestListEmpty(t *testing.T) {
	_, c := start(t)
	if all, err := c.List(); err != nil || len(all) != 0 {
		t.Errorf("without a cache: %d, %v", len(all), err)
	}
}

func TestList(t *testing.T) {
	s, c, old, fresh := two(t)
	s.Add("a/first", modelFiles())
	first := pullModel(t, s, c, "a/first")
	// Add folders that hold no complete model, or do not belong to the hub.
	for _, path := range []string{
		"models--bert-base-uncased/snapshots/" + old.Commit + "/config.json", "datasets--a--b/snapshots/" + old.Commit + "/x",
		"models--a--partial/snapshots/" + old.Commit + "/config.json", "models--a--b/snapshots/main/config.json", "models--a--none/refs/main",
		"CACHEDIR.TAG", ".locks/x", "version.txt", "models--org--name/refs/.DS_Store", "models--org--name/snapshots/.DS_Store",
	} {
		writeFile(t, filepath.Join(c.Cache(), path), []byte("x"))
	}
	past := time.Now().Add(-time.Hour)
	for _, f := range old.Files {
		if f.Name == "config.json" {
			continue
		}
		if err := os.Chtimes(filepath.Join(old.Dir, f.Name), past, past); err != nil {
			t.Fatal(err)
		}
	}
	all, err := c.List()
	if err != nil || len(all) != 3 {
		t.Fatalf("%d snapshots, %v", len(all), err)
	}
	for i, want := range []Snapshot{first, fresh, old} {
		if all[i].Model != want.Model || all[i].Commit != want.Commit {
			t.Errorf("%d: %s@%s, want %s@%s", i, all[i].Model, all[i].Commit, want.Model, want.Commit)
		}
	}
	if !slices.Equal(all[1].Revisions, []string{"main"}) || !slices.Equal(all[2].Revisions, []string{"v1"}) {
		t.Errorf("revisions %q and %q", all[1].Revisions, all[2].Revisions)
	}
	var want int64
	for _, name := range wanted {
		want += int64(len(modelFiles()[name]))
	}
	if got := all[0].Size(); got != want {
		t.Errorf("size %d, want %d", got, want)
	}
}

func TestVerify(t *testing.T) {
	s, c, _, snapshot := two(t)
	path := func(name string) string { return filepath.Join(snapshot.Dir, name) }
	blob := func(name string) string {
		return filepath.Join(c.repo(model), "blobs", hubtest.ETag(name, s.Repos[model].Files[name]))
	}
	steps := []error{
		os.Truncate(blob("model.safetensors"), weightsSize-1),
		os.WriteFile(blob("tokenizer.json"), []byte("other"), 0o644),
		os.Remove(blob("vocab.txt")),
		os.Remove(path("config.json")),
		os.Symlink("/etc/passwd", path("config.json")),
		os.Remove(path("tokenizer_config.json")),
		os.WriteFile(path("tokenizer_config.json"), []byte("[]"), 0o644),
		os.WriteFile(filepath.Join(c.repo(model), "blobs", "odd"), []byte("{}"), 0o644),
		os.Symlink("../../blobs/odd", path("odd.json")),
	}
	if err := errors.Join(steps...); err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{
		"model.safetensors":     {"wrong SHA-256", "expected " + weightsTag()},
		"tokenizer.json":        {"wrong git blob id"},
		"vocab.txt":             {"is missing"},
		"config.json":           {"links to /etc/passwd"},
		"tokenizer_config.json": {"a copy, not a link", "differs from " + hubtest.ETag("x", []byte("{}"))},
		"odd.json":              {"hash is unknown", `named it "odd"`},
	}
	found, err := c.Lookup(toRef(t, model))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found.Files {
		err := c.VerifyFile(t.Context(), found, f)
		if words := want[f.Name]; words != nil {
			wantError(t, err, words...)
		} else if err != nil {
			t.Errorf("%s: %v", f.Name, err)
		}
	}
	if len(found.Files) != len(wanted)+1 {
		t.Errorf("%d files", len(found.Files))
	}
}

func TestRemove(t *testing.T) {
	s, c, old, fresh := two(t)
	s.Add("org/other", modelFiles())
	other := pullModel(t, s, c, "org/other")
	before := walk(t, c.Cache())
	planned, err := c.Removal(toRef(t, model))
	if err != nil || !slices.Equal(walk(t, c.Cache()), before) {
		t.Errorf("a dry run: %v, or it removed something", err)
	}
	removed, err := c.Remove(toRef(t, model))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(planned, removed) {
		t.Errorf("planned %+v, removed %+v", planned, removed)
	}
	config := s.Repos[model].Files["config.json"]
	want := Removed{Commit: fresh.Commit, Revisions: []string{"main"}, Blobs: 1, Bytes: int64(len(config)), Kept: len(wanted) - 1}
	if removed.Commit != want.Commit || removed.Blobs != want.Blobs || removed.Bytes != want.Bytes || removed.Kept != want.Kept || removed.All {
		t.Errorf("got %+v, want %+v", removed, want)
	}
	if _, err := c.Find(toRef(t, model)); !errors.Is(err, ErrNotCached) {
		t.Errorf("after: %v", err)
	}
	at, err := c.Find(toRef(t, model+"@v1"))
	if err != nil || at.Commit != old.Commit {
		t.Fatalf("the other snapshot: %v", err)
	}
	for _, f := range at.Files {
		if err := c.VerifyFile(t.Context(), at, f); err != nil {
			t.Errorf("%s: %v", f.Name, err)
		}
	}
	_, err = c.Remove(toRef(t, model))
	if !errors.Is(err, ErrNotCached) {
		t.Errorf("again: %v", err)
	}
	removed, err = c.Remove(toRef(t, model+"@v1"))
	if err != nil || !removed.All || removed.Blobs != len(wanted) || removed.Bytes != old.Size() {
		t.Errorf("the last: %+v, %v, want %d blobs of %d bytes", removed, err, len(wanted), old.Size())
	}
	for _, path := range walk(t, c.Cache()) {
		if strings.Contains(path, "models--org--name") {
			t.Errorf("left over: %s", path)
		}
	}
	checkSnapshot(t, s, c, other)
}

// TestCacheOfPython uses, completes and removes models that huggingface_hub 2.4
// downloaded, with more and with fewer files.
func TestCacheOfPython(t *testing.T) {
	s, c := start(t)
	commit := s.Repos[model].Commit
	put := func(name string) {
		data := s.Repos[model].Files[name]
		etag := hubtest.ETag(name, data)
		path := filepath.Join(c.snapshotDir(model, commit), filepath.FromSlash(name))
		writeFile(t, filepath.Join(c.repo(model), "blobs", etag), data)
		up := strings.Repeat("../", 2+strings.Count(name, "/"))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(up+"blobs/"+etag, path)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"config.json", "tokenizer.json", "onnx/model.onnx", "README.md"} {
		put(name)
	}
	for path, text := range map[string]string{
		"CACHEDIR.TAG":                                      "Signature: 8a477f597d28d172789f06886806bc55",
		"models--org--name/refs/main":                       commit,
		"models--org--name/trees/" + commit + ".json":       "{}",
		"models--org--name/.no_exist/" + commit + "/x.json": "",
	} {
		writeFile(t, filepath.Join(c.Cache(), path), []byte(text))
	}
	if _, err := c.Find(toRef(t, model)); !errors.Is(err, ErrNotCached) {
		t.Errorf("without weights: %v", err)
	}
	put("model.safetensors")
	found, err := c.Find(toRef(t, model))
	if err != nil {
		t.Fatal(err)
	}
	s.Forget()
	pulled, err := c.Pull(t.Context(), toRef(t, model), PullOptions{})
	if err != nil || s.Sent(weightsTag()) > 0 || len(pulled.Files) != len(wanted)+2 || len(found.Files) != 5 {
		t.Errorf("%v, %d bytes of weights, %d files after %d", err, s.Sent(weightsTag()), len(pulled.Files), len(found.Files))
	}
	for _, f := range pulled.Files {
		if err := c.VerifyFile(t.Context(), pulled, f); err != nil {
			t.Errorf("%s: %v", f.Name, err)
		}
	}
	if _, err := os.Stat(filepath.Join(c.repo(model), ".no_exist", commit, "x.json")); err != nil {
		t.Error(err)
	}
	if _, err := c.Remove(toRef(t, model)); err != nil {
		t.Fatal(err)
	}
	if left := walk(t, c.Cache()); len(left) != 1 || filepath.Base(left[0]) != "CACHEDIR.TAG" {
		t.Errorf("left over: %q", left)
	}
}

// TestRemoveParts removes the partial files of an interrupted download.
func TestRemoveParts(t *testing.T) {
	_, c := start(t)
	if _, err := c.Remove(toRef(t, model)); !errors.Is(err, ErrNotCached) {
		t.Errorf("without a cache: %v", err)
	}
	writeFile(t, blobPath(c)+incomplete, make([]byte, 100))
	writeFile(t, blobPath(c)+".part65536"+incomplete, make([]byte, 50))
	if _, err := c.Remove(toRef(t, "org/other")); !errors.Is(err, ErrNotCached) {
		t.Errorf("another model: %v", err)
	}
	removed, err := c.Remove(toRef(t, model))
	if err != nil || !removed.All || removed.Bytes != 150 || removed.Commit != "" {
		t.Errorf("got %+v, %v", removed, err)
	}
	if left := walk(t, c.Cache()); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
}

// TestRemoveStaysInside adds links that lead out of the cache.
func TestRemoveStaysInside(t *testing.T) {
	s, c := start(t)
	snapshot := pullModel(t, s, c, model)
	outside := t.TempDir()
	precious := filepath.Join(outside, "precious")
	writeFile(t, precious, []byte("x"))
	up, err := filepath.Rel(snapshot.Dir, precious)
	if err != nil {
		t.Fatal(err)
	}
	steps := []error{
		os.Symlink(precious, filepath.Join(snapshot.Dir, "absolute")),
		os.Symlink(up, filepath.Join(snapshot.Dir, "relative")),
		os.Symlink(outside, filepath.Join(snapshot.Dir, "directory")),
		os.Symlink("../../refs/main", filepath.Join(snapshot.Dir, "ref")),
		os.Symlink(precious, filepath.Join(c.repo(model), "blobs", "shared")),
		os.Symlink("../../blobs/shared", filepath.Join(snapshot.Dir, "shared")),
		os.Symlink(outside, filepath.Join(c.repo(model), "refs", "out")),
	}
	if err := errors.Join(steps...); err != nil {
		t.Fatal(err)
	}
	removed, err := c.Remove(toRef(t, model))
	if err != nil || !removed.All {
		t.Errorf("got %+v, %v", removed, err)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Errorf("outside: %v", err)
	}
	// The model's directory itself is such a link.
	writeFile(t, filepath.Join(outside, "refs", "main"), []byte(snapshot.Commit))
	writeFile(t, filepath.Join(outside, "snapshots", snapshot.Commit, "config.json"), []byte("x"))
	if err := os.Symlink(outside, c.repo(model)); err != nil {
		t.Fatal(err)
	}
	_, err = c.Remove(toRef(t, model))
	wantError(t, err, "models--org--name", "by hand")
	if _, err := os.Stat(filepath.Join(outside, "refs", "main")); err != nil {
		t.Errorf("outside: %v", err)
	}
}

// TestBadRef checks that the error names a ref file without a commit.
func TestBadRef(t *testing.T) {
	s, c := start(t)
	pullModel(t, s, c, model)
	ref := filepath.Join(c.repo(model), "refs", "main")
	for _, text := range []string{"", "main", "../../../../etc", strings.Repeat("a", 2000)} {
		writeFile(t, ref, []byte(text))
		_, err := c.Find(toRef(t, model))
		wantError(t, err, ref)
	}
	writeFile(t, ref, []byte(s.Repos[model].Commit+"\n")) // as an editor would write it
	if _, err := c.Find(toRef(t, model)); err != nil {
		t.Error(err)
	}
	writeFile(t, ref, []byte("x"))
	pullModel(t, s, c, model)
}
