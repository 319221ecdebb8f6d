package engine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/mlxrank/mlxrank/weights"
)

// largeVocabularyChild is the environment variable that makes the test binary a child
// process, which opens the tokenizer of the directory that it names.
const largeVocabularyChild = "MLXRANK_TEST_LARGE_VOCABULARY"

// pieces is the number of pieces of XLM-RoBERTa's vocabulary.
const piecesOfXLMRoberta = 250002

// A largeVocabularyReport has the memory and the time that a tokenizer takes.
type largeVocabularyReport struct {
	Parse, Library time.Duration
	Before         int64 // bytes of the process before
	Peak           int64 // at most
	After          int64 // with the tokenizer, after a collection
	Tokens         int
}

// largeVocabulary writes a model directory with a synthetic vocabulary of Unigram.
func largeVocabulary(t testing.TB) string {
	t.Helper()
	r := rand.New(rand.NewPCG(5, 6))
	alphabets := [][]rune{[]rune("abcdefghijklmnopqrstuvwxyz"), []rune("абвгдежзийклмнопрстуфхцчшщъыьэюя"), []rune("αβγδεζηθικλμνξοπρστυφχψω"), nil}
	for c := rune(0x4E00); c < 0x9000; c++ {
		alphabets[3] = append(alphabets[3], c)
	}
	var b bytes.Buffer
	b.WriteString(`{"version":"1.0","added_tokens":[{"id":0,"content":"<s>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}],` +
		`"normalizer":null,"pre_tokenizer":{"type":"Metaspace","replacement":"▁","prepend_scheme":"always"},"post_processor":null,"decoder":null,` +
		`"model":{"type":"Unigram","unk_id":3,"vocab":[["<s>",0.0],["<pad>",0.0],["</s>",0.0],["<unk>",0.0],["<mask>",0.0]`)
	seen := map[string]bool{}
	for len(seen) < piecesOfXLMRoberta-5 {
		alphabet := alphabets[r.IntN(len(alphabets))]
		length := 1 + r.IntN(10)
		if len(alphabet) > 1000 {
			length = 1 + r.IntN(4)
		}
		piece := []rune{}
		if r.IntN(2) == 0 {
			piece = append(piece, '▁')
		}
		for range length {
			piece = append(piece, alphabet[r.IntN(len(alphabet))])
		}
		if !seen[string(piece)] {
			seen[string(piece)] = true
			fmt.Fprintf(&b, `,[%q,%v]`, string(piece), float64(float32(-5-10*r.Float64())))
		}
	}
	b.WriteString(`]}}`)
	dir := t.TempDir()
	for name, data := range map[string][]byte{
		"tokenizer.json": b.Bytes(), "config.json": []byte(`{"model_type":"xlm-roberta"}`), "tokenizer_config.json": []byte(`{"tokenizer_class":"XLMRobertaTokenizer"}`),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestLargeVocabulary opens a tokenizer of 250,002 pieces in a process of its own, and
// bounds the memory that it takes.
func TestLargeVocabulary(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), largeVocabularyChild+"="+largeVocabulary(t))
	var errs bytes.Buffer
	child.Stderr = &errs
	out, err := child.Output()
	if err != nil {
		t.Fatalf("%v\n%.3000s", err, errs.String())
	}
	var report largeVocabularyReport
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatal(err)
	}
	const mb = 1 << 20
	t.Logf("parsed in %v, loaded in %v; %d MB before, %d MB at most, %d MB after", report.Parse, report.Library, report.Before/mb, report.Peak/mb, report.After/mb)
	if underRace { // its shadow memory is several times the program's
		report.Peak, report.After = 0, 0
	}
	if report.Tokens == 0 || report.Peak > 160*mb || report.After > 100*mb {
		t.Errorf("%d tokens, %d MB at most, %d MB after; want tokens, 160 MB and 100 MB at most", report.Tokens, report.Peak/mb, report.After/mb)
	}
}

// runAsLargeVocabularyChild runs in the child and returns its exit status.
func runAsLargeVocabularyChild(dir string) int {
	report, err := openLargeVocabulary(dir)
	return printReport(report, err)
}

func openLargeVocabulary(dir string) (report largeVocabularyReport, err error) {
	debug.FreeOSMemory()
	report.Before = residentMemory()
	start := time.Now()
	file, _, err := weights.OpenTokenizer(dir, piecesOfXLMRoberta)
	if err != nil {
		return report, err
	}
	report.Parse = time.Since(start)
	start = time.Now()
	tok, err := newTokenizer(file, 512)
	if err != nil {
		return report, err
	}
	report.Library, report.Peak = time.Since(start), usage().memory
	debug.FreeOSMemory()
	report.After = residentMemory()
	encoded, err := tok.encode("the quick brown fox и медведь 東京")
	report.Tokens = encoded.total
	return report, err
}

// residentMemory returns the resident memory of the process.
func residentMemory() int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, line, _ := strings.Cut(string(status), "VmRSS:")
	var kib int64
	if _, err := fmt.Sscan(line, &kib); err != nil {
		return 0
	}
	return kib << 10
}
