package model

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/weights"
	"github.com/mlxrank/mlxrank/weights/hub/hubtest"
	"github.com/mlxrank/mlxrank/weights/weightstest"
)

func TestModelPull(t *testing.T) {
	s, dir := clitest.StartHub(t)
	r := mlxrank.MustRun(t, "", "model", "pull", clitest.HubModel)
	if r.Out != dir+"\n" {
		t.Errorf("standard output is %q, want %q", r.Out, dir)
	}
	lines := strings.Split(strings.TrimSpace(r.ErrOut), "\n")
	if len(lines) != 5 || !strings.HasPrefix(lines[4], "org/name at commit "+s.Repos[clitest.HubModel].Commit+": 4 files, ") {
		t.Errorf("standard error:\n%s", r.ErrOut)
	}
	for _, name := range []string{"config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"} {
		if n := strings.Count(r.ErrOut, "downloaded "+name+" of org/name, "); n != 1 {
			t.Errorf("%d lines of %s:\n%s", n, name, r.ErrOut)
		}
	}
	if strings.Contains(r.ErrOut, "\r") || strings.Contains(r.ErrOut, "\x1b") {
		t.Errorf("a bar without a terminal: %q", r.ErrOut)
	}
	if r := mlxrank.MustRun(t, "", "model", "pull", clitest.HubModel+"@v1"); r.Out != dir+"\n" || strings.Contains(r.ErrOut, "downloaded") {
		t.Errorf("again: %q\n%s", r.Out, r.ErrOut)
	}
	s.Repos["org/private"] = &hubtest.Repo{Token: "hf_other"}
	t.Setenv("HF_TOKEN", "hf_s3cret")
	r = mlxrank.Run(t, "", "model", "pull", "org/private")
	clitest.CheckFailure(t, r, command.ExitFailure, "org/private", "private", "HF_TOKEN")
	if strings.Contains(r.ErrOut, "hf_s3cret") {
		t.Errorf("the token is shown: %s", r.ErrOut)
	}
	t.Setenv("HF_ENDPOINT", "http://127.0.0.1:1")
	clitest.CheckFailure(t, mlxrank.Run(t, "", "model", "pull", clitest.HubModel), command.ExitFailure, "cannot reach the hub", "--model builtin", "--model DIR")
	t.Setenv("HF_HUB_OFFLINE", "1")
	if r := mlxrank.MustRun(t, "", "model", "pull", clitest.HubModel); r.Out != dir+"\n" {
		t.Errorf("offline: %q", r.Out)
	}
	r = mlxrank.Run(t, "", "model", "pull", "org/other")
	clitest.CheckFailure(t, r, command.ExitFailure, "org/other", "HF_HUB_OFFLINE")
	if strings.Contains(r.ErrOut, "model pull") {
		t.Errorf("a pull that failed advises a pull: %s", r.ErrOut)
	}
	clitest.CheckFailure(t, mlxrank.Run(t, "", "model", "show", "org/other"), command.ExitFailure, "unset HF_HUB_OFFLINE, which forbids downloads, and get it with mlxrank model pull org/other")
}

// TestModelByAddress passes the URL of a page as the model.
func TestModelByAddress(t *testing.T) {
	s, dir := clitest.StartHub(t)
	page := s.URL + "/" + clitest.HubModel
	if r := mlxrank.MustRun(t, "", "model", "pull", page+"/tree/main"); r.Out != dir+"\n" {
		t.Errorf("got %q", r.Out)
	}
	if got := mlxrank.Summary(t, "--model", page, "--query", "q", "d").Model; got != clitest.HubModel {
		t.Errorf("the model is called %q, want %q", got, clitest.HubModel)
	}
	if r := mlxrank.MustRun(t, "", "model", "show", "https://hf.co/"+clitest.HubModel); !strings.HasPrefix(r.Out, "model       org/name\n") {
		t.Errorf("got %q", r.Out)
	}
	mlxrank.MustRun(t, "", "model", "verify", "huggingface.co/"+clitest.HubModel)
	clitest.CheckFailure(t, mlxrank.Run(t, "", "rerank", "--model", "https://huggingface.co/datasets/org/name", "--query", "q", "d"), command.ExitFailure, "a page of datasets")
	clitest.CheckFailure(t, mlxrank.Run(t, "", "rerank", "--model", "https://example.org/org/name", "--query", "q", "d"), command.ExitFailure, "is not a hub")
}

func TestMisspeltModel(t *testing.T) {
	clitest.StartHub(t)
	mlxrank.MustRun(t, "", "model", "pull", clitest.HubModel)
	for ref, want := range map[string]string{
		"bultin":                               "builtin",
		"Builtin":                              "builtin",
		"name":                                 clitest.HubModel,
		"org/nam":                              clitest.HubModel,
		"ms-marco-MiniLM-L6-v2":                weights.Default,
		"ms-marco-MiniLM-L-6-v2":               weights.Default,
		"cross-encoder/ms-marco-MiniLM-L-6-v2": weights.Default,
	} {
		r := mlxrank.Run(t, "", "rerank", "--model", ref, "--query", "q", "d")
		clitest.CheckFailure(t, r, command.ExitFailure, fmt.Sprintf("; did you mean %q?", want))
		clitest.CheckFailure(t, mlxrank.Run(t, "", "model", "pull", ref), r.Status+1-min(strings.Count(ref, "/"), 1), fmt.Sprintf("; did you mean %q?", want))
	}
	r := mlxrank.Run(t, "", "rerank", "--model", "bert-base-uncased", "--query", "q", "d")
	if strings.Contains(r.ErrOut, "did you mean") {
		t.Errorf("got %q", r.ErrOut)
	}
}

// TestModelPullUnsupported checks that the reason is given before the weights are downloaded.
func TestModelPullUnsupported(t *testing.T) {
	s, _ := clitest.StartHub(t)
	files := s.Repos[clitest.HubModel].Files
	files["config.json"] = []byte(`{"model_type":"llama"}`)
	r := mlxrank.Run(t, "", "model", "pull", clitest.HubModel)
	if r.Status != command.ExitFailure || !strings.Contains(r.ErrOut, `mlxrank: model "org/name": config.json: model_type "llama" is not supported`) {
		t.Errorf("status %d\n%s", r.Status, r.ErrOut)
	}
	if n := s.Sent(hubtest.ETag("model.safetensors", files["model.safetensors"])); n > 0 {
		t.Errorf("%d bytes of weights were downloaded", n)
	}
}

// TestDownloadInterrupted interrupts a download and continues it.
func TestDownloadInterrupted(t *testing.T) {
	for _, cmdline := range [][]string{{"model", "pull", clitest.HubModel}, {"rerank", "--model", clitest.HubModel, "--query", "q", "d"}} {
		s, _ := clitest.StartHub(t)
		ctx, cancel := context.WithCancel(t.Context())
		weights := s.Repos[clitest.HubModel].Files["model.safetensors"]
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
		r := mlxrank.RunContext(ctx, t, strings.NewReader(""), cmdline...)
		lines := strings.Split(strings.TrimSpace(r.ErrOut), "\n")
		if r.Status != command.ExitInterrupted || lines[len(lines)-1] != "mlxrank: interrupted" {
			t.Errorf("%v: status %d\n%s", cmdline, r.Status, r.ErrOut)
		}
		s.SetContent(nil)
		mlxrank.MustRun(t, "", cmdline...)
	}
}

func TestModelList(t *testing.T) {
	s, dir := clitest.StartHub(t)
	if r := mlxrank.MustRun(t, "", "model", "list"); !strings.HasSuffix(r.Out, "-  builtin\n") || strings.Count(r.Out, "\n") != 2 || !strings.Contains(r.ErrOut, "mlxrank model pull "+weights.Default) {
		t.Errorf("an empty cache: %q\n%s", r.Out, r.ErrOut)
	}
	if r := mlxrank.MustRun(t, "", "model", "list", "--json"); strings.Count(r.Out, `"model"`) != 1 || !strings.Contains(r.Out, `"model": "builtin"`) || r.ErrOut != "" {
		t.Errorf("an empty cache: %q\n%s", r.Out, r.ErrOut)
	}
	mlxrank.MustRun(t, "", "model", "pull", clitest.HubModel)
	mlxrank.MustRun(t, "", "model", "pull", clitest.HubModel+"@v1")
	other := hubtest.Dir(t, clitest.TinyModel(t))
	s.Add("org/other", other)
	snapshot := strings.TrimSpace(mlxrank.MustRun(t, "", "model", "pull", "org/other").Out)
	config := filepath.Join(snapshot, "config.json")
	if err := errors.Join(os.Remove(config), os.WriteFile(config, []byte(`{"model_type":"llama"}`), 0o644)); err != nil {
		t.Fatal(err)
	}
	r := mlxrank.MustRun(t, "", "model", "list")
	lines := strings.Split(strings.TrimSpace(r.Out), "\n")
	if len(lines) != 3 || !strings.HasSuffix(lines[1], "-  builtin") || !strings.HasSuffix(lines[2], s.Repos[clitest.HubModel].Commit[:12]+"  org/name (main, v1)") || !strings.Contains(lines[2], "kB") {
		t.Errorf("got\n%s", r.Out)
	}
	if !strings.Contains(r.ErrOut, "not listed: 1 model that mlxrank does not support; mlxrank model show REF prints the reason") {
		t.Errorf("standard error: %s", r.ErrOut)
	}
	var listed []listedJSON
	if err := json.Unmarshal([]byte(mlxrank.MustRun(t, "", "model", "list", "--json").Out), &listed); err != nil {
		t.Fatal(err)
	}
	var size int64
	for _, data := range s.Repos[clitest.HubModel].Files {
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
	s, dir := clitest.StartHub(t)
	clitest.CheckFailure(t, mlxrank.Run(t, "", "model", "show", clitest.HubModel), command.ExitFailure, clitest.HubModel, "not downloaded yet", "mlxrank model pull "+clitest.HubModel)
	clitest.CheckFailure(t, mlxrank.Run(t, "", "model", "show", "/no/such"), command.ExitFailure, "/no/such", "no such directory")
	if n := len(s.Requests()); n > 0 {
		t.Errorf("%d requests", n)
	}
	mlxrank.MustRun(t, "", "model", "pull", clitest.HubModel)
	tiny := clitest.TinyModel(t)
	for _, test := range []struct {
		ref   string
		words []string
	}{
		{clitest.HubModel, []string{"revision    main", s.Repos[clitest.HubModel].Commit, dir, "supported   yes", "arch        BertForSequenceClassification, 0.2 million", "2 layers of 64", "128 positions", "head        pooling cls, pooler.dense to 64 with tanh, classifier to 1", "tokenizer   WordPiece", "max length  128 tokens", "activation  sigmoid", "model.safetensors", "total"}},
		{tiny, []string{tiny, "supported   yes", "labels      1: LABEL_0", "tokenizer.json"}},
		{"builtin", []string{"supported   yes", "6 layers of 384", "max length  512 tokens", "model.safetensors"}},
	} {
		r := mlxrank.MustRun(t, "", "model", "show", test.ref)
		for _, word := range test.words {
			if !strings.Contains(r.Out, word) {
				t.Errorf("%s: lacks %q:\n%s", test.ref, word, r.Out)
			}
		}
		var m shownJSON
		if err := json.Unmarshal([]byte(mlxrank.MustRun(t, "", "model", "show", test.ref, "--json").Out), &m); err != nil {
			t.Fatal(err)
		}
		if !m.Supported || m.Model != test.ref || m.Shape == nil || m.MaxLength == 0 || len(m.Files) < 3 || m.Bytes == 0 {
			t.Errorf("got %+v", m)
		}
	}
	weightstest.WriteFile(t, filepath.Join(tiny, "config.json"), []byte(`{"model_type":"deberta-v2"}`))
	r := mlxrank.MustRun(t, "", "model", "show", tiny)
	if !strings.Contains(r.Out, `supported   no: `) || !strings.Contains(r.Out, `model_type "deberta-v2" is not supported`) {
		t.Errorf("got\n%s", r.Out)
	}
}

func TestModelVerify(t *testing.T) {
	s, dir := clitest.StartHub(t)
	mlxrank.MustRun(t, "", "model", "pull", clitest.HubModel)
	r := mlxrank.MustRun(t, "", "model", "verify", clitest.HubModel)
	if n := strings.Count(r.Out, "OK    "); n != 5 || strings.Contains(r.Out, "FAIL") {
		t.Errorf("got\n%s", r.Out)
	}
	mlxrank.MustRun(t, "", "model", "verify", "builtin")
	weights := filepath.Join(dir, "model.safetensors")
	data := s.Repos[clitest.HubModel].Files["model.safetensors"]
	spoilt := append([]byte{}, data...)
	spoilt[len(spoilt)-1] ^= 1 // a number that is as good as any other
	weightstest.WriteFile(t, weights, spoilt)
	r = mlxrank.Run(t, "", "model", "verify", clitest.HubModel)
	for _, word := range []string{"FAIL  model.safetensors", "wrong SHA-256", hubtest.ETag("model.safetensors", data), "OK    config.json", "OK    tokenizer, shapes"} {
		if !strings.Contains(r.Out, word) {
			t.Errorf("lacks %q:\n%s", word, r.Out)
		}
	}
	if r.Status != command.ExitFailure || !strings.Contains(r.ErrOut, "1 damaged file above") || !strings.Contains(r.ErrOut, "mlxrank model remove --yes org/name && mlxrank model pull org/name") {
		t.Errorf("status %d\n%s", r.Status, r.ErrOut)
	}
	if err := os.Remove(weights); err != nil {
		t.Fatal(err)
	}
	r = mlxrank.Run(t, "", "model", "verify", clitest.HubModel)
	if r.Status != command.ExitFailure || !strings.Contains(r.Out, "FAIL  ") || !strings.Contains(r.Out, "lacks model.safetensors") || !strings.Contains(r.ErrOut, "not complete: get it with mlxrank model pull org/name") {
		t.Errorf("status %d\n%s", r.Status, r.Out)
	}
	tiny := clitest.TinyModel(t)
	clitest.Edit(t, filepath.Join(tiny, "model.safetensors"), func(data []byte) []byte { return data[:len(data)-1] })
	r = mlxrank.Run(t, "", "model", "verify", tiny)
	if r.Status != command.ExitFailure || !strings.Contains(r.Out, "truncated") || !strings.Contains(r.ErrOut, "cannot be used") {
		t.Errorf("status %d\n%s%s", r.Status, r.Out, r.ErrOut)
	}
}

// TestModelVerifyCopies verifies a cache without links, and checks that files without
// a known hash are reported.
func TestModelVerifyCopies(t *testing.T) {
	_, dir := clitest.StartHub(t)
	t.Setenv("HF_HUB_DISABLE_SYMLINKS", "1")
	mlxrank.MustRun(t, "", "model", "pull", clitest.HubModel)
	if r := mlxrank.MustRun(t, "", "model", "verify", clitest.HubModel); strings.Count(r.Out, "OK    ") != 5 || r.ErrOut != "" {
		t.Errorf("got\n%s%s", r.Out, r.ErrOut)
	}
	trees := filepath.Join(filepath.Dir(filepath.Dir(dir)), "trees")
	if err := os.RemoveAll(trees); err != nil {
		t.Fatal(err)
	}
	r := mlxrank.MustRun(t, "", "model", "verify", clitest.HubModel)
	if strings.Count(r.Out, "not compared: its hash is unknown on this machine") != 4 || !strings.Contains(r.ErrOut, "4 files were not compared") || !strings.Contains(r.ErrOut, "mlxrank model pull org/name") {
		t.Errorf("got\n%s%s", r.Out, r.ErrOut)
	}
	mlxrank.MustRun(t, "", "model", "pull", clitest.HubModel)
	weights := filepath.Join(dir, "model.safetensors")
	clitest.Edit(t, weights, func(data []byte) []byte { data[len(data)-1] ^= 1; return data })
	if r := mlxrank.Run(t, "", "model", "verify", clitest.HubModel); r.Status != command.ExitFailure || !strings.Contains(r.Out, "FAIL  model.safetensors") {
		t.Errorf("status %d\n%s", r.Status, r.Out)
	}
}

func TestModelRemove(t *testing.T) {
	s, dir := clitest.StartHub(t)
	clitest.CheckFailure(t, mlxrank.Run(t, "", "model", "remove", clitest.HubModel), command.ExitFailure, clitest.HubModel, "not downloaded yet")
	mlxrank.MustRun(t, "", "model", "pull", clitest.HubModel)
	what := "org/name at commit " + s.Repos[clitest.HubModel].Commit + " (main): 4 files, "
	for _, args := range [][]string{{}, {"--yes", "--dry-run"}} {
		clitest.CheckFailure(t, mlxrank.Run(t, "y\n", append([]string{"model", "remove", clitest.HubModel}, args...)...), command.ExitUsage, "--yes", "--dry-run")
	}
	clitest.CheckFailure(t, mlxrank.Run(t, "y\n", "model", "remove", clitest.HubModel), command.ExitUsage, "would remove "+what, "not a terminal")
	if r := mlxrank.MustRun(t, "", "model", "remove", "--dry-run", clitest.HubModel); !strings.HasPrefix(r.Out, "would remove "+what) || r.ErrOut != "" {
		t.Errorf("got %q\n%s", r.Out, r.ErrOut)
	}
	if _, err := os.Stat(filepath.Join(dir, "config.json")); err != nil {
		t.Errorf("removed without a yes: %v", err)
	}
	r := mlxrank.MustRun(t, "", "model", "remove", "--yes", clitest.HubModel)
	if !strings.HasPrefix(r.Out, "removed "+what) || !strings.HasSuffix(r.Out, "kB\n") || r.ErrOut != "" {
		t.Errorf("got %q\n%s", r.Out, r.ErrOut)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}

// TestModelHelp checks that each help text has an example.
func TestModelHelp(t *testing.T) {
	for _, args := range [][]string{
		{"model", "--help"}, {"help", "model"}, {"model", "pull", "--help"}, {"model", "list", "-h"}, {"model", "show", "x", "--help"},
		{"model", "verify", "--help"}, {"model", "remove", "--help"},
	} {
		r := mlxrank.MustRun(t, "", args...)
		if !strings.Contains(r.Out, "Examples:") || !strings.Contains(r.Out, "mlxrank model") || r.ErrOut != "" {
			t.Errorf("%q: %q\n%s", args, r.Out, r.ErrOut)
		}
	}
	if r := mlxrank.RunContext(t.Context(), t, io.MultiReader(), "--help"); !strings.Contains(r.Out, "model") {
		t.Errorf("got %s", r.Out)
	}
}

// TestModelShowSettings checks that show prints each setting with the file that sets it.
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
	shown := mlxrank.MustRun(t, "", "model", "show", dir).Out
	for _, want := range []string{
		"max length  40 tokens, from sentence_bert_config.json", "truncation  left", `prompt      "find: " before every query`,
		"activation  softmax, from config_sentence_transformers.json", "labels      2: no, yes", "warning     tokenizer_config.json", "wordsplitting",
	} {
		if !strings.Contains(shown, want) {
			t.Errorf("%s\nlacks %q", shown, want)
		}
	}
	r := mlxrank.MustRun(t, "", "rerank", "--model", dir, "--label", "yes", "--query", "city", "the city", "a river")
	if !strings.Contains(r.ErrOut, "activation softmax") || !strings.Contains(r.ErrOut, "wordsplitting") {
		t.Errorf("the run says %s", r.ErrOut)
	}
}
