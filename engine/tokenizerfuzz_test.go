package engine

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/daulet/tokenizers"

	"github.com/mlxrank/mlxrank/weights"
)

var (
	tokenizerExecutions = flag.Int("tokenizer-executions", 5000, "damaged tokenizer.json files to try")
	tokenizerFirst      = flag.Int("tokenizer-first", 0, "number of the first file")
)

// tokenizerChild is the environment variable that makes the test binary a child
// process, which a crash may end. Its value has the index of the first file and
// the index after the last.
const tokenizerChild = "MLXRANK_TEST_TOKENIZER"

// Limits for one file.
const (
	mostMemory = 500 << 20 // bytes of the process
	mostSilent = 90 * time.Second
)

// A tokenizerReport counts the results for the files.
type tokenizerReport struct {
	Executions int           // files tried
	Loaded     int           // accepted by the parser and passed to the library
	Refused    int           // refused by the library although the parser accepted them
	Texts      int           // encoded
	Failed     int           // texts that the library refused
	Slowest    time.Duration // CPU time of a file
	Memory     int64         // peak of the process, in bytes
	Messages   []string      // of the library, for files it refused

	Known map[string]string `json:",omitempty"` // result for each known file
	Raw   map[string]string `json:",omitempty"` // result if the library reads them unparsed
}

// TestDamagedTokenizers makes valid and damaged files, loads each and encodes
// texts with it, in a child process. No file may crash the child, take two seconds
// of CPU time or 500 MB.
func TestDamagedTokenizers(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	from, to := *tokenizerFirst, *tokenizerFirst+*tokenizerExecutions
	var sum tokenizerReport
	for crashes := 0; from < to && crashes < 5; {
		report, next := runTokenizerChild(t, from, min(to, from+50000))
		if next < min(to, from+50000) {
			crashes++
			next++
		}
		from = next
		sum.add(report)
	}
	t.Logf("%+v", sum)
	if sum.Loaded < sum.Executions/5 || sum.Texts < sum.Loaded {
		t.Errorf("%d of %d files reached the library with %d texts: too few", sum.Loaded, sum.Executions, sum.Texts)
	}
	if sum.Refused > 0 {
		t.Errorf("the library refused %d files that the parser accepted: %q", sum.Refused, sum.Messages)
	}
}

func (r *tokenizerReport) add(s tokenizerReport) {
	r.Executions += s.Executions
	r.Loaded += s.Loaded
	r.Refused += s.Refused
	r.Texts += s.Texts
	r.Failed += s.Failed
	r.Slowest = max(r.Slowest, s.Slowest)
	r.Memory = max(r.Memory, s.Memory)
	r.Messages = append(r.Messages, s.Messages...)
}

// knownTokenizers makes the child try the known files instead of random ones.
const knownTokenizers = "known"

// TestKnownDamage loads files that crashed or hung the library, and some valid
// files, in a child process.
func TestKnownDamage(t *testing.T) {
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), tokenizerChild+"="+knownTokenizers)
	var errs bytes.Buffer
	child.Stderr = &errs
	out, err := child.Output()
	if err != nil {
		t.Fatalf("%v\n%.3000s", err, errs.String())
	}
	var report tokenizerReport
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatal(err)
	}
	wants := map[string]string{
		"bpe": `"NFD" is not supported`, "bytelevel": "loads", "unigram": "pattern", "wordlevel": `"WordLevel" is not supported`,
		"unigram-precompiled": "loads", "bytelevel-roberta": "loads",
		"wordpiece": "loads", "wordpiece-legacy": "loads", "wordpiece-cased-added": "loads",
		"damaged-12092": "invalid UTF-8", "damaged-21811": "invalid UTF-8", "damaged-2708": "decoder: found a number", "damaged-19204": "decoder: field",
		"damaged-12498": "1 ids and 0 tokens", "damaged-13473": "2 ids and 1 tokens", "damaged-14091": "2 ids and 1 tokens",
		"special token of 70000 characters": "70000 bytes (limit 1024)", "62 MB of added tokens": "limit", "version with NUL": "version",
		"decoder's prefix a lone surrogate": "surrogate", "template token missing": `"[SEP]" is not one of special_tokens`,
	}
	// The library must return errors too, in case the parser misses a fault.
	for name, got := range report.Raw {
		if got == "loads" {
			t.Errorf("%s: the library loads it", name)
		}
		t.Logf("%s, unparsed: %s", name, got)
	}
	if len(report.Raw) != 8 {
		t.Errorf("the library read %d files, want 8", len(report.Raw))
	}
	if len(report.Known) != len(wants) {
		t.Errorf("%d files, want %d", len(report.Known), len(wants))
	}
	for name, got := range report.Known {
		if want, ok := wants[name]; !ok || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// tryKnown loads the seeds, and files that are too large or too simple to be
// stored as seeds.
func (r *tokenizerReport) tryKnown() error {
	seeds, err := readTokenizerSeeds()
	if err != nil {
		return err
	}
	files := map[string][]byte{}
	for i, name := range seeds.names {
		files[strings.TrimSuffix(filepath.Base(name), ".json")] = seeds.seeds[i]
	}
	good := string(files["wordpiece"])
	var many strings.Builder
	for i := 60; many.Len() < 62<<20; i++ {
		fmt.Fprintf(&many, `{"id":%d,"content":"token %[1]d","single_word":false,"lstrip":false,"rstrip":false,"normalized":true,"special":false},`, i)
	}
	for name, edit := range map[string][2]string{
		"special token of 70000 characters": {`"content": "[SEP]"`, `"content": "` + strings.Repeat("A", 70000) + `"`},
		"62 MB of added tokens":             {`"added_tokens": [`, `"added_tokens": [` + many.String()},
		"version with NUL":                  {`"version": "1.0"`, `"version": "1.0\u0000"`},
		"decoder's prefix a lone surrogate": {`"prefix": "##"`, `"prefix": "\ud800"`},
		"template token missing":            {`"[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}`, `"[X]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}`},
	} {
		text := strings.Replace(good, edit[0], edit[1], 1)
		if text == good {
			return fmt.Errorf("%s: the text to replace is missing", name)
		}
		files[name] = []byte(text)
	}
	r.Known, r.Raw = map[string]string{}, map[string]string{}
	for name, data := range files {
		if strings.HasPrefix(name, "damaged") || strings.HasPrefix(name, "template") {
			r.Raw[name] = tryRaw(data)
		}
	}
	for name, data := range files {
		start := usage()
		r.Known[name] = tryKnown(data)
		if took := usage().cpu - start.cpu; took > mostCPU {
			r.Known[name] = fmt.Sprintf("took %v of a processor", took)
		}
	}
	return nil
}

// tryRaw returns the result for a file that the library reads unparsed.
func tryRaw(data []byte) string {
	native, err := tokenizers.FromBytes(data)
	if err != nil {
		return err.Error()
	}
	encoded := native.EncodeWithOptions("a mail reader [SEP] 東京", true, tokenizers.WithReturnAllAttributes())
	if err := native.Close(); err != nil {
		return err.Error()
	}
	if len(encoded.IDs) == 0 {
		return "no ids"
	}
	return "loads"
}

// tryKnown returns the result for a file.
func tryKnown(data []byte) string {
	file, err := weights.ParseTokenizer(data, 1000)
	if err != nil {
		return err.Error()
	}
	tok, err := newTokenizer(file, 512)
	if err != nil {
		return "library: " + err.Error()
	}
	encoded, err := tok.encode("a mail reader [SEP] 東京")
	if err = errors.Join(err, tok.close()); err != nil {
		return "library: " + err.Error()
	}
	if encoded.total < 5 {
		return fmt.Sprintf("only %d tokens", encoded.total)
	}
	return "loads"
}

// runTokenizerChild tries the files from one index up to another. It returns the
// index at which the child ended, which is to if it tried all.
func runTokenizerChild(t *testing.T, from, to int) (tokenizerReport, int) {
	t.Helper()
	place, err := os.Create(filepath.Join(t.TempDir(), "place"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := place.Close(); err != nil {
			t.Error(err)
		}
	}()
	var out, errs bytes.Buffer
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), fmt.Sprintf("%s=%d,%d", tokenizerChild, from, to))
	child.ExtraFiles = []*os.File{place}
	child.Stdout, child.Stderr = &out, &errs
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- child.Wait() }()
	err = watchTokenizerChild(child, place, done)
	at := readPlace(place)
	if err != nil {
		text := errs.String()
		t.Errorf("file %d (make it with -tokenizer-first %[1]d -tokenizer-executions 1): %v\n%.3000s", at, err, text)
		return tokenizerReport{Executions: at - from}, at
	}
	var report tokenizerReport
	if err := json.Unmarshal(out.Bytes(), &report); err != nil {
		t.Fatalf("the child printed %q: %v", out.String(), err)
	}
	return report, to
}

// watchTokenizerChild waits for the child and kills it if it hangs.
func watchTokenizerChild(child *exec.Cmd, place *os.File, done <-chan error) error {
	last, since := -1, time.Now()
	for {
		select {
		case err := <-done:
			return err
		case <-time.After(time.Second):
		}
		if at := readPlace(place); at != last {
			last, since = at, time.Now()
		} else if time.Since(since) > mostSilent {
			if err := child.Process.Kill(); err != nil {
				return err
			}
			return fmt.Errorf("no progress in %v: %w", mostSilent, <-done)
		}
	}
}

// readPlace reads the index of the file that the child is trying.
func readPlace(place *os.File) int {
	var number [8]byte
	if _, err := place.ReadAt(number[:], 0); err != nil {
		return 0 // not written yet
	}
	return int(binary.LittleEndian.Uint64(number[:]))
}

// tokenizerSeeds holds the files in testdata/tokenizers: valid ones of every kind,
// and files that crashed the library if it read them unparsed.
type tokenizerSeeds struct {
	names []string
	seeds [][]byte
	good  [][]byte // the files that load
}

func readTokenizerSeeds() (s tokenizerSeeds, err error) {
	if s.names, err = filepath.Glob("testdata/tokenizers/*.json"); err != nil {
		return s, err
	}
	slices.Sort(s.names)
	for _, name := range s.names {
		data, err := os.ReadFile(name)
		if err != nil {
			return s, err
		}
		s.seeds = append(s.seeds, data)
		if base := filepath.Base(name); strings.HasPrefix(base, "wordpiece") || base == "unigram-precompiled.json" || base == "bytelevel-roberta.json" {
			s.good = append(s.good, data)
		}
	}
	return s, nil
}

// runAsTokenizerChild runs in the child and returns its exit status.
func runAsTokenizerChild(span string) int {
	report, err := tryTokenizers(span)
	return printReport(report, err)
}

// printReport prints a child's report or error, and returns its exit status.
func printReport(report any, err error) int {
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(report)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func tryTokenizers(span string) (report tokenizerReport, err error) {
	if span == knownTokenizers {
		return report, report.tryKnown()
	}
	first, last, _ := strings.Cut(span, ",")
	from, err := strconv.Atoi(first)
	if err != nil {
		return report, err
	}
	to, err := strconv.Atoi(last)
	if err != nil {
		return report, err
	}
	seeds, err := readTokenizerSeeds()
	if err != nil {
		return report, err
	}
	place := os.NewFile(3, "place")
	for at := from; at < to; at++ {
		var number [8]byte
		binary.LittleEndian.PutUint64(number[:], uint64(at))
		if _, err := place.WriteAt(number[:], 0); err != nil {
			return report, err
		}
		start := usage()
		if err := report.try(newMutator(seeds, uint64(at))); err != nil {
			return report, err
		}
		end := usage()
		report.Executions++
		report.Slowest = max(report.Slowest, end.cpu-start.cpu)
		report.Memory = end.memory
		if report.Slowest > mostCPU || report.Memory > mostMemory {
			return report, fmt.Errorf("%v of CPU time, %d bytes of memory", end.cpu-start.cpu, end.memory)
		}
	}
	return report, nil
}

// try loads a file and encodes texts. It returns an error if the tokens contradict
// the file.
func (r *tokenizerReport) try(m mutator) error {
	data := m.file()
	file, err := weights.ParseTokenizer(data, []int{60, 130, 300, 1000, 1000, 1000, 1000, 1000}[m.IntN(8)])
	if err != nil {
		return nil //nolint:nilerr // expected for most files
	}
	if newFrame(file.Pair).special == 0 {
		return nil // expected
	}
	r.Loaded++
	tok, err := newTokenizer(file, 3+m.IntN(100))
	if err != nil {
		r.Refused++
		if len(r.Messages) < 5 {
			r.Messages = append(r.Messages, err.Error())
		}
		return nil
	}
	for range 4 {
		text := m.text()
		if m.IntN(4) == 0 && len(file.AddedTokens) > 0 {
			text += file.AddedTokens[m.IntN(len(file.AddedTokens))].Content + m.text()
		}
		encoded, err := tok.encode(text)
		if err != nil {
			r.Failed++
			continue
		}
		r.Texts++
		for _, id := range encoded.ids {
			if !file.HasID(int(id)) {
				return fmt.Errorf("text %q has the id %d, which is not in the file", text, id)
			}
		}
	}
	return tok.close()
}

type used struct {
	cpu    time.Duration
	memory int64
}

// usage returns the CPU time and memory that the process has used.
func usage() used {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	memory := u.Maxrss
	if runtime.GOOS == "linux" {
		memory = peakMemory()
	}
	return used{time.Duration(u.Utime.Nano() + u.Stime.Nano()), memory}
}

// peakMemory returns the peak memory of the process since its start. Linux's
// Maxrss would include the process that it was forked from.
func peakMemory() int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		panic(err)
	}
	_, line, _ := strings.Cut(string(status), "VmHWM:")
	var kib int64
	if _, err := fmt.Sscan(line, &kib); err != nil {
		panic(err)
	}
	return kib << 10
}

// FuzzTokenizerFile loads a file and encodes a text with it.
func FuzzTokenizerFile(f *testing.F) {
	seeds, err := readTokenizerSeeds()
	if err != nil {
		f.Fatal(err)
	}
	for i := range uint64(20) {
		m := newMutator(seeds, i)
		f.Add(m.file(), m.text())
	}
	for _, seed := range seeds.seeds {
		f.Add(seed, "a [SEP] mail reader 東京")
	}
	f.Fuzz(func(t *testing.T, data []byte, text string) {
		file, err := weights.ParseTokenizer(data, 300)
		if err != nil {
			return
		}
		if newFrame(file.Pair).special == 0 {
			return
		}
		tok, err := newTokenizer(file, 32)
		if err != nil {
			t.Fatalf("the library refused what the parser accepted: %v", err)
		}
		if encoded, err := tok.encode(text); err == nil && slices.ContainsFunc(encoded.ids, func(id int32) bool { return !file.HasID(int(id)) }) {
			t.Errorf("ids %v, not all of them in the file", encoded.ids)
		}
		if err := tok.close(); err != nil {
			t.Error(err)
		}
	})
}
