package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/weights"
	"github.com/mlxrank/mlxrank/weights/hub/hubtest"
	"github.com/mlxrank/mlxrank/weights/weightstest"
)

const hubModel = "org/name"

// startHub returns a hub with the small model, and the directory that the model
// comes to lie in.
func startHub(t *testing.T) (s *hubtest.Server, dir string) {
	t.Helper()
	s = hubtest.New(t)
	repo := s.Add(hubModel, hubtest.Dir(t, tinyModel(t)))
	repo.Revisions = []string{"v1"}
	return s, filepath.Join(s.Use(t), "models--org--name", "snapshots", repo.Commit)
}

func TestModelPull(t *testing.T) {
	s, dir := startHub(t)
	r := mlxrank.mustRun(t, "", "model", "pull", hubModel)
	if r.out != dir+"\n" {
		t.Errorf("standard output is %q, want %q", r.out, dir)
	}
	lines := strings.Split(strings.TrimSpace(r.errOut), "\n")
	if len(lines) != 5 || !strings.HasPrefix(lines[4], "org/name at commit "+s.Repos[hubModel].Commit+": 4 files, ") {
		t.Errorf("standard error:\n%s", r.errOut)
	}
	for _, name := range []string{"config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"} {
		if n := strings.Count(r.errOut, "downloaded "+name+" of org/name, "); n != 1 {
			t.Errorf("%d lines of %s:\n%s", n, name, r.errOut)
		}
	}
	if strings.Contains(r.errOut, "\r") || strings.Contains(r.errOut, "\x1b") {
		t.Errorf("a bar without a terminal: %q", r.errOut)
	}
	if r := mlxrank.mustRun(t, "", "model", "pull", hubModel+"@v1"); r.out != dir+"\n" || strings.Contains(r.errOut, "downloaded") {
		t.Errorf("again: %q\n%s", r.out, r.errOut)
	}
	s.Repos["org/private"] = &hubtest.Repo{Token: "hf_other"}
	t.Setenv("HF_TOKEN", "hf_s3cret")
	r = mlxrank.run(t, "", "model", "pull", "org/private")
	checkFailure(t, r, exitFailure, "org/private", "private", "HF_TOKEN")
	if strings.Contains(r.errOut, "hf_s3cret") {
		t.Errorf("the token is shown: %s", r.errOut)
	}
	t.Setenv("HF_ENDPOINT", "http://127.0.0.1:1")
	checkFailure(t, mlxrank.run(t, "", "model", "pull", hubModel), exitFailure, "cannot reach the hub", "--model builtin", "--model DIR")
	t.Setenv("HF_HUB_OFFLINE", "1")
	if r := mlxrank.mustRun(t, "", "model", "pull", hubModel); r.out != dir+"\n" {
		t.Errorf("offline: %q", r.out)
	}
	r = mlxrank.run(t, "", "model", "pull", "org/other")
	checkFailure(t, r, exitFailure, "org/other", "HF_HUB_OFFLINE")
	if strings.Contains(r.errOut, "model pull") {
		t.Errorf("a pull that failed advises a pull: %s", r.errOut)
	}
	checkFailure(t, mlxrank.run(t, "", "model", "show", "org/other"), exitFailure, "unset HF_HUB_OFFLINE, which forbids downloads, and get it with mlxrank model pull org/other")
}

// TestModelByAddress takes the address of a page for the model.
func TestModelByAddress(t *testing.T) {
	s, dir := startHub(t)
	page := s.URL + "/" + hubModel
	if r := mlxrank.mustRun(t, "", "model", "pull", page+"/tree/main"); r.out != dir+"\n" {
		t.Errorf("got %q", r.out)
	}
	if got := rerankJSON(t, "", "--model", page, "--query", "q", "d").Run.Model; got != hubModel {
		t.Errorf("the model is called %q, want %q", got, hubModel)
	}
	if r := mlxrank.mustRun(t, "", "model", "show", "https://hf.co/"+hubModel); !strings.HasPrefix(r.out, "model       org/name\n") {
		t.Errorf("got %q", r.out)
	}
	mlxrank.mustRun(t, "", "model", "verify", "huggingface.co/"+hubModel)
	checkFailure(t, mlxrank.run(t, "", "rerank", "--model", "https://huggingface.co/datasets/org/name", "--query", "q", "d"), exitFailure, "a page of datasets")
	checkFailure(t, mlxrank.run(t, "", "rerank", "--model", "https://example.org/org/name", "--query", "q", "d"), exitFailure, "is not a hub")
}

func TestMisspeltModel(t *testing.T) {
	startHub(t)
	mlxrank.mustRun(t, "", "model", "pull", hubModel)
	for ref, want := range map[string]string{
		"bultin":                              "builtin",
		"Builtin":                             "builtin",
		"name":                                hubModel,
		"org/nam":                             hubModel,
		"ms-marco-MiniLM-L-6-v2":              weights.Default,
		"cross-encoder/ms-marco-MiniLM-L6-v2": weights.Default,
	} {
		r := mlxrank.run(t, "", "rerank", "--model", ref, "--query", "q", "d")
		checkFailure(t, r, exitFailure, fmt.Sprintf("; did you mean %q?", want))
		checkFailure(t, mlxrank.run(t, "", "model", "pull", ref), r.status+1-min(strings.Count(ref, "/"), 1), fmt.Sprintf("; did you mean %q?", want))
	}
	r := mlxrank.run(t, "", "rerank", "--model", "bert-base-uncased", "--query", "q", "d")
	if strings.Contains(r.errOut, "did you mean") {
		t.Errorf("got %q", r.errOut)
	}
}

// TestModelPullUnsupported says why before the weights are downloaded.
func TestModelPullUnsupported(t *testing.T) {
	s, _ := startHub(t)
	files := s.Repos[hubModel].Files
	files["config.json"] = []byte(`{"model_type":"llama"}`)
	r := mlxrank.run(t, "", "model", "pull", hubModel)
	if r.status != exitFailure || !strings.Contains(r.errOut, `mlxrank: model "org/name": config.json: model_type "llama" is not supported`) {
		t.Errorf("status %d\n%s", r.status, r.errOut)
	}
	if n := s.Sent(hubtest.ETag("model.safetensors", files["model.safetensors"])); n > 0 {
		t.Errorf("%d bytes of weights were downloaded", n)
	}
}

// TestDownloadWhenNeeded scores with a model that is not here yet, and then
// without a hub.
func TestDownloadWhenNeeded(t *testing.T) {
	s, dir := startHub(t)
	commands := [][]string{
		{"rerank", "--query", "city", "london", "water"}, {"score", "--input", "-", "--output", "-"}, {"tokenize", "--input", "-"},
	}
	for _, command := range commands {
		args := slices.Concat(command, []string{"--model", hubModel})
		first := mlxrank.mustRun(t, pairLines(2), args...)
		if !strings.Contains(first.errOut, "downloaded model.safetensors of org/name") {
			t.Errorf("%s: nothing tells of the download:\n%s", command[0], first.errOut)
		}
		s.Forget()
		t.Setenv("HF_HUB_OFFLINE", "1")
		again := mlxrank.mustRun(t, pairLines(2), args...)
		if again.out != first.out || strings.Contains(again.errOut, "downloaded") || len(s.Requests()) > 0 {
			t.Errorf("%s: offline it prints %q, want %q\n%s", command[0], again.out, first.out, again.errOut)
		}
		mlxrank.mustRun(t, "", "model", "remove", "--yes", hubModel)
		t.Setenv("HF_HUB_OFFLINE", "")
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("it is still there: %v", err)
		}
	}
	mlxrank.mustRun(t, "", "model", "pull", hubModel)
	if r := mlxrank.mustRun(t, "", "doctor", "--model", hubModel); !strings.Contains(r.out, "by org/name") {
		t.Errorf("doctor does not use it:\n%s", r.out)
	}
}

// TestDownloadInterrupted stops a download, and goes on with it.
func TestDownloadInterrupted(t *testing.T) {
	for _, command := range [][]string{{"model", "pull", hubModel}, {"rerank", "--model", hubModel, "--query", "q", "d"}} {
		s, _ := startHub(t)
		ctx, cancel := context.WithCancel(t.Context())
		weights := s.Repos[hubModel].Files["model.safetensors"]
		s.SetContent(func(w http.ResponseWriter, r *http.Request, blob []byte) bool {
			if len(blob) != len(weights) {
				return false
			}
			w.Header().Set("Content-Length", r.Header.Get("Content-Length"))
			if _, err := w.Write(blob[:1000]); err != nil {
				panic(http.ErrAbortHandler)
			}
			w.(http.Flusher).Flush()
			cancel()
			<-r.Context().Done()
			panic(http.ErrAbortHandler)
		})
		r := mlxrank.runContext(ctx, t, strings.NewReader(""), command...)
		lines := strings.Split(strings.TrimSpace(r.errOut), "\n")
		if r.status != exitInterrupted || lines[len(lines)-1] != "mlxrank: interrupted" {
			t.Errorf("%v: status %d\n%s", command, r.status, r.errOut)
		}
		s.SetContent(nil)
		mlxrank.mustRun(t, "", command...)
	}
}

func TestModelList(t *testing.T) {
	s, dir := startHub(t)
	if r := mlxrank.mustRun(t, "", "model", "list"); !strings.HasSuffix(r.out, "-  builtin\n") || strings.Count(r.out, "\n") != 2 || !strings.Contains(r.errOut, "mlxrank model pull "+weights.Default) {
		t.Errorf("an empty cache: %q\n%s", r.out, r.errOut)
	}
	if r := mlxrank.mustRun(t, "", "model", "list", "--json"); strings.Count(r.out, `"model"`) != 1 || !strings.Contains(r.out, `"model": "builtin"`) || r.errOut != "" {
		t.Errorf("an empty cache: %q\n%s", r.out, r.errOut)
	}
	mlxrank.mustRun(t, "", "model", "pull", hubModel)
	mlxrank.mustRun(t, "", "model", "pull", hubModel+"@v1")
	other := hubtest.Dir(t, tinyModel(t))
	s.Add("org/other", other)
	snapshot := strings.TrimSpace(mlxrank.mustRun(t, "", "model", "pull", "org/other").out)
	config := filepath.Join(snapshot, "config.json")
	if err := errors.Join(os.Remove(config), os.WriteFile(config, []byte(`{"model_type":"llama"}`), 0o644)); err != nil {
		t.Fatal(err)
	}
	r := mlxrank.mustRun(t, "", "model", "list")
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	if len(lines) != 3 || !strings.HasSuffix(lines[1], "-  builtin") || !strings.HasSuffix(lines[2], s.Repos[hubModel].Commit[:12]+"  org/name (main, v1)") || !strings.Contains(lines[2], "kB") {
		t.Errorf("got\n%s", r.out)
	}
	if !strings.Contains(r.errOut, "not listed: 1 model of another kind") {
		t.Errorf("standard error: %s", r.errOut)
	}
	var listed []listedJSON
	if err := json.Unmarshal([]byte(mlxrank.mustRun(t, "", "model", "list", "--json").out), &listed); err != nil {
		t.Fatal(err)
	}
	var size int64
	for _, data := range s.Repos[hubModel].Files {
		size += int64(len(data))
	}
	if len(listed) != 2 || listed[0].Model != weights.Builtin || listed[0].Bytes == 0 || listed[0].Modified.IsZero() {
		t.Fatalf("got %+v", listed)
	}
	if listed = listed[1:]; listed[0].Dir != dir || listed[0].Bytes != size || listed[0].Modified.IsZero() || strings.Join(listed[0].Revisions, " ") != "main v1" {
		t.Errorf("got %+v", listed)
	}
}

func TestModelShow(t *testing.T) {
	s, dir := startHub(t)
	checkFailure(t, mlxrank.run(t, "", "model", "show", hubModel), exitFailure, hubModel, "not downloaded yet", "mlxrank model pull "+hubModel)
	checkFailure(t, mlxrank.run(t, "", "model", "show", "/no/such"), exitFailure, "/no/such", "no such directory")
	if n := len(s.Requests()); n > 0 {
		t.Errorf("%d requests", n)
	}
	mlxrank.mustRun(t, "", "model", "pull", hubModel)
	tiny := tinyModel(t)
	for _, test := range []struct {
		ref   string
		words []string
	}{
		{hubModel, []string{"revision    main", s.Repos[hubModel].Commit, dir, "supported   yes", "2 layers of 64", "max length  128 tokens", "activation  sigmoid", "model.safetensors", "in all"}},
		{tiny, []string{tiny, "supported   yes", "labels      1: LABEL_0", "tokenizer.json"}},
		{"builtin", []string{"supported   yes", "6 layers of 384", "max length  512 tokens", "model.safetensors"}},
	} {
		r := mlxrank.mustRun(t, "", "model", "show", test.ref)
		for _, word := range test.words {
			if !strings.Contains(r.out, word) {
				t.Errorf("%s: lacks %q:\n%s", test.ref, word, r.out)
			}
		}
		var m shownJSON
		if err := json.Unmarshal([]byte(mlxrank.mustRun(t, "", "model", "show", test.ref, "--json").out), &m); err != nil {
			t.Fatal(err)
		}
		if !m.Supported || m.Model != test.ref || m.Shape == nil || m.MaxLength == 0 || len(m.Files) < 3 || m.Bytes == 0 {
			t.Errorf("got %+v", m)
		}
	}
	weightstest.WriteFile(t, filepath.Join(tiny, "config.json"), []byte(`{"model_type":"xlm-roberta"}`))
	r := mlxrank.mustRun(t, "", "model", "show", tiny)
	if !strings.Contains(r.out, `supported   no: `) || !strings.Contains(r.out, `model_type "xlm-roberta" is not supported`) {
		t.Errorf("got\n%s", r.out)
	}
}

func TestModelVerify(t *testing.T) {
	s, dir := startHub(t)
	mlxrank.mustRun(t, "", "model", "pull", hubModel)
	r := mlxrank.mustRun(t, "", "model", "verify", hubModel)
	if n := strings.Count(r.out, "OK    "); n != 5 || strings.Contains(r.out, "FAIL") {
		t.Errorf("got\n%s", r.out)
	}
	mlxrank.mustRun(t, "", "model", "verify", "builtin")
	weights := filepath.Join(dir, "model.safetensors")
	data := s.Repos[hubModel].Files["model.safetensors"]
	spoilt := append([]byte{}, data...)
	spoilt[len(spoilt)-1] ^= 1 // a number that is as good as any other
	weightstest.WriteFile(t, weights, spoilt)
	r = mlxrank.run(t, "", "model", "verify", hubModel)
	for _, word := range []string{"FAIL  model.safetensors", "wrong SHA-256", hubtest.ETag("model.safetensors", data), "OK    config.json", "OK    tokenizer, shapes"} {
		if !strings.Contains(r.out, word) {
			t.Errorf("lacks %q:\n%s", word, r.out)
		}
	}
	if r.status != exitFailure || !strings.Contains(r.errOut, "1 damaged file above") || !strings.Contains(r.errOut, "mlxrank model remove --yes org/name && mlxrank model pull org/name") {
		t.Errorf("status %d\n%s", r.status, r.errOut)
	}
	if err := os.Remove(weights); err != nil {
		t.Fatal(err)
	}
	r = mlxrank.run(t, "", "model", "verify", hubModel)
	if r.status != exitFailure || !strings.Contains(r.out, "FAIL  ") || !strings.Contains(r.out, "lacks model.safetensors") || !strings.Contains(r.errOut, "not complete: get it with mlxrank model pull org/name") {
		t.Errorf("status %d\n%s", r.status, r.out)
	}
	tiny := tinyModel(t)
	edit(t, filepath.Join(tiny, "model.safetensors"), func(data []byte) []byte { return data[:len(data)-1] })
	r = mlxrank.run(t, "", "model", "verify", tiny)
	if r.status != exitFailure || !strings.Contains(r.out, "truncated") || !strings.Contains(r.errOut, "cannot be used") {
		t.Errorf("status %d\n%s%s", r.status, r.out, r.errOut)
	}
}

// TestModelVerifyCopies verifies a cache without links, and says what it cannot
// compare.
func TestModelVerifyCopies(t *testing.T) {
	_, dir := startHub(t)
	t.Setenv("HF_HUB_DISABLE_SYMLINKS", "1")
	mlxrank.mustRun(t, "", "model", "pull", hubModel)
	if r := mlxrank.mustRun(t, "", "model", "verify", hubModel); strings.Count(r.out, "OK    ") != 5 || r.errOut != "" {
		t.Errorf("got\n%s%s", r.out, r.errOut)
	}
	trees := filepath.Join(filepath.Dir(filepath.Dir(dir)), "trees")
	if err := os.RemoveAll(trees); err != nil {
		t.Fatal(err)
	}
	r := mlxrank.mustRun(t, "", "model", "verify", hubModel)
	if strings.Count(r.out, "not compared: its hash is not known here") != 4 || !strings.Contains(r.errOut, "4 files were not compared") || !strings.Contains(r.errOut, "mlxrank model pull org/name") {
		t.Errorf("got\n%s%s", r.out, r.errOut)
	}
	mlxrank.mustRun(t, "", "model", "pull", hubModel)
	weights := filepath.Join(dir, "model.safetensors")
	edit(t, weights, func(data []byte) []byte { data[len(data)-1] ^= 1; return data })
	if r := mlxrank.run(t, "", "model", "verify", hubModel); r.status != exitFailure || !strings.Contains(r.out, "FAIL  model.safetensors") {
		t.Errorf("status %d\n%s", r.status, r.out)
	}
}

func TestModelRemove(t *testing.T) {
	s, dir := startHub(t)
	checkFailure(t, mlxrank.run(t, "", "model", "remove", hubModel), exitFailure, hubModel, "not downloaded yet")
	mlxrank.mustRun(t, "", "model", "pull", hubModel)
	what := "org/name at commit " + s.Repos[hubModel].Commit + " (main): 4 files, "
	for _, args := range [][]string{{}, {"--yes", "--dry-run"}} {
		checkFailure(t, mlxrank.run(t, "y\n", append([]string{"model", "remove", hubModel}, args...)...), exitUsage, "--yes", "--dry-run")
	}
	checkFailure(t, mlxrank.run(t, "y\n", "model", "remove", hubModel), exitUsage, "would remove "+what, "no terminal")
	if r := mlxrank.mustRun(t, "", "model", "remove", "--dry-run", hubModel); !strings.HasPrefix(r.out, "would remove "+what) || r.errOut != "" {
		t.Errorf("got %q\n%s", r.out, r.errOut)
	}
	if _, err := os.Stat(filepath.Join(dir, "config.json")); err != nil {
		t.Errorf("removed without a yes: %v", err)
	}
	r := mlxrank.mustRun(t, "", "model", "remove", "--yes", hubModel)
	if !strings.HasPrefix(r.out, "removed "+what) || !strings.HasSuffix(r.out, "kB\n") || r.errOut != "" {
		t.Errorf("got %q\n%s", r.out, r.errOut)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}

func TestBytesText(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 999: "999 B", 1000: "1.0 kB", 90_868_376: "90.9 MB", 999_949: "999.9 kB", 999_950: "1.0 MB", 1_340_000_000: "1.3 GB", 5e12: "5.0 TB",
	} {
		if got := bytesText(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}

// TestModelHelp finds an example in each help text.
func TestModelHelp(t *testing.T) {
	for _, args := range [][]string{
		{"model", "--help"}, {"help", "model"}, {"model", "pull", "--help"}, {"model", "list", "-h"}, {"model", "show", "x", "--help"},
		{"model", "verify", "--help"}, {"model", "remove", "--help"},
	} {
		r := mlxrank.mustRun(t, "", args...)
		if !strings.Contains(r.out, "Examples:") || !strings.Contains(r.out, "mlxrank model") || r.errOut != "" {
			t.Errorf("%q: %q\n%s", args, r.out, r.errOut)
		}
	}
	if r := mlxrank.runContext(t.Context(), t, io.MultiReader(), "--help"); !strings.Contains(r.out, "model") {
		t.Errorf("got %s", r.out)
	}
}

// What was read from a model's settings files is shown, with the name of the file.
func TestModelShowSettings(t *testing.T) {
	dir := t.TempDir()
	config := weightstest.Tiny(32, 2, 1)
	config["id2label"] = map[string]any{"0": "no", "1": "yes"}
	weightstest.Write(t, dir, weightstest.Spec{Config: config, Seed: 1})
	weightstest.WriteJSON(t, filepath.Join(dir, "tokenizer_config.json"), map[string]any{"truncation_side": "left", "wordsplitting": 1})
	weightstest.WriteJSON(t, filepath.Join(dir, "modules.json"), []any{map[string]any{"path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"}})
	weightstest.WriteJSON(t, filepath.Join(dir, "sentence_bert_config.json"), map[string]any{"transformer_task": "sequence-classification", "max_seq_length": 40})
	weightstest.WriteJSON(t, filepath.Join(dir, "config_sentence_transformers.json"), map[string]any{
		"model_type": "CrossEncoder", "prompts": map[string]any{"q": "find: "}, "default_prompt_name": "q", "activation_fn": "torch.nn.modules.activation.Softmax",
	})
	shown := mlxrank.mustRun(t, "", "model", "show", dir).out
	for _, want := range []string{
		"max length  40 tokens, by sentence_bert_config.json", "truncation  left", `prompt      "find: " ahead of every query`,
		"activation  softmax, by config_sentence_transformers.json", "labels      2: no, yes", "warning     tokenizer_config.json", "wordsplitting",
	} {
		if !strings.Contains(shown, want) {
			t.Errorf("%s\nlacks %q", shown, want)
		}
	}
	r := mlxrank.mustRun(t, "", "rerank", "--model", dir, "--label", "yes", "--query", "city", "the city", "a river")
	if !strings.Contains(r.errOut, "activation softmax") || !strings.Contains(r.errOut, "wordsplitting") {
		t.Errorf("the run says %s", r.errOut)
	}
}
