package hub

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mlxrank/mlxrank/weights/hub/hubtest"
)

// blobPath returns the path of the weights' blob.
func blobPath(c *Client) string { return filepath.Join(c.repo(model), "blobs", weightsTag()) }

// TestResumeAfterCuts cuts every response after some bytes and checks that no
// byte is fetched twice, within one pull and over several.
func TestResumeAfterCuts(t *testing.T) {
	s, c := start(t)
	s.SetContent(func(w http.ResponseWriter, r *http.Request, blob []byte) bool {
		if len(blob) == weightsSize {
			hubtest.Cut(w, r, blob, 10_000)
		}
		return len(blob) == weightsSize
	})
	pullModel(t, s, c, model) // each try makes progress, so the limit on tries is never reached
	if got := s.Sent(weightsTag()); got != weightsSize {
		t.Errorf("%d bytes were sent, want %d", got, weightsSize)
	}

	s, c = start(t)
	c.limits.tries = 1
	c.limits.perFile = 1 // with more, a failing part would lose the bytes in transit to another
	s.SetContent(func(w http.ResponseWriter, r *http.Request, blob []byte) bool {
		if len(blob) == weightsSize {
			hubtest.Cut(w, r, blob, 30_000)
		}
		return len(blob) == weightsSize
	})
	failed := 0
	for ; failed < 100; failed++ {
		_, err := c.Pull(t.Context(), toRef(t, model), PullOptions{})
		if err == nil {
			break
		}
		wantError(t, err, "model.safetensors", "transfer interrupted")
		checkNoBrokenBlobs(t, c)
	}
	if got := s.Sent(weightsTag()); got != weightsSize || failed < weightsSize/30_000 {
		t.Errorf("%d bytes were sent in %d pulls, want %d in many", got, failed+1, weightsSize)
	}
	s.SetContent(nil)
	pullModel(t, s, c, model)
}

// TestResumeFrom starts with the partial files of an earlier run, including
// partial files of Python's huggingface_hub, which hold the first bytes only.
func TestResumeFrom(t *testing.T) {
	data := modelFiles()[weightsFile]
	for _, test := range []struct {
		name  string
		first int            // bytes of ETAG.incomplete, -1 for none
		parts map[int]int    // start of each part to its bytes
		spoil func([]byte)   // damages the first bytes
		sent  func(int) bool // checks the bytes sent, given the bytes missing
	}{
		{name: "first bytes", first: 10_000},
		{name: "first bytes over several parts", first: 3*partSize + 17},
		{name: "all bytes", first: weightsSize},
		{name: "a part and no first bytes", first: -1, parts: map[int]int{partSize: 100}},
		{name: "parts", first: 5, parts: map[int]int{partSize: partSize, 2 * partSize: 77, 5 * partSize: 1234}},
		{name: "an interrupted gathering", first: partSize + 1000, parts: map[int]int{partSize: partSize, 2 * partSize: partSize}},
		{name: "a part that is all there already", first: 3 * partSize, parts: map[int]int{partSize: partSize}},
		{name: "parts of another size", first: 100, parts: map[int]int{1000: 500, 100: 50, 70_000: 9}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, c := start(t)
			have := map[int]bool{}
			keep := func(path string, begin, n int) {
				writeFile(t, path, data[begin:begin+n])
				for i := begin; i < begin+n; i++ {
					have[i] = true
				}
			}
			if test.first >= 0 {
				keep(blobPath(c)+incomplete, 0, test.first)
			}
			for begin, n := range test.parts {
				keep(fmt.Sprintf("%s.part%d%s", blobPath(c), begin, incomplete), begin, n)
			}
			pullModel(t, s, c, model)
			lacking := int64(weightsSize - len(have))
			if test.name == "parts of another size" { // parts that do not fit are fetched again
				if got := s.Sent(weightsTag()); got < lacking || got > weightsSize {
					t.Errorf("%d bytes were sent, want %d or a few more", got, lacking)
				}
			} else if got := s.Sent(weightsTag()); got != lacking {
				t.Errorf("%d bytes were sent, want %d", got, lacking)
			}
		})
	}
}

// TestResumeInOddDirectory uses a cache whose path contains glob characters.
func TestResumeInOddDirectory(t *testing.T) {
	s, _ := start(t)
	t.Setenv("HF_HUB_CACHE", filepath.Join(t.TempDir(), `a[b]*c? d`))
	c := newClient(t)
	for _, begin := range []int{0, partSize} {
		name := incomplete
		if begin > 0 {
			name = fmt.Sprintf(".part%d%s", begin, incomplete)
		}
		writeFile(t, blobPath(c)+name, modelFiles()[weightsFile][begin:begin+1000])
	}
	pullModel(t, s, c, model)
	if got := s.Sent(weightsTag()); got != weightsSize-2000 {
		t.Errorf("%d bytes were sent, want %d", got, weightsSize-2000)
	}
}

// TestResumeFromDamage checks that a pull starts over if the partial files of an
// earlier run are damaged.
func TestResumeFromDamage(t *testing.T) {
	for name, left := range map[string][]byte{
		"damaged":              append([]byte{1}, modelFiles()[weightsFile][1:partSize]...),
		"too long":             make([]byte, weightsSize+1),
		"complete but damaged": make([]byte, weightsSize),
	} {
		t.Run(name, func(t *testing.T) {
			s, c := start(t)
			writeFile(t, blobPath(c)+incomplete, left)
			pullModel(t, s, c, model)
		})
	}
	t.Run("blob of another size", func(t *testing.T) {
		s, c := start(t)
		writeFile(t, blobPath(c), make([]byte, 10))
		pullModel(t, s, c, model)
	})
	t.Run("a part that is too long", func(t *testing.T) {
		s, c := start(t)
		writeFile(t, fmt.Sprintf("%s.part%d%s", blobPath(c), partSize, incomplete), make([]byte, partSize+1))
		pullModel(t, s, c, model)
	})
}

// TestWrongBytes serves bytes that differ from the file.
func TestWrongBytes(t *testing.T) {
	send := func(change func(w http.ResponseWriter, r *http.Request, blob []byte)) func(http.ResponseWriter, *http.Request, []byte) bool {
		return func(w http.ResponseWriter, r *http.Request, blob []byte) bool {
			if len(blob) == weightsSize {
				change(w, r, blob)
			}
			return len(blob) == weightsSize
		}
	}
	serve := func(w http.ResponseWriter, r *http.Request, data string) {
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(data))
	}
	for _, test := range []struct {
		name  string
		serve func(w http.ResponseWriter, r *http.Request, blob []byte)
		words []string
	}{
		{"wrong hash", func(w http.ResponseWriter, r *http.Request, blob []byte) {
			serve(w, r, string(blob[:len(blob)-1])+"x")
		}, []string{"wrong SHA-256", "expected " + weightsTag(), "damaged"}},
		{"too short", func(w http.ResponseWriter, r *http.Request, blob []byte) {
			serve(w, r, string(blob[:len(blob)-1]))
		}, []string{"content range", fmt.Sprint(weightsSize)}},
		{"too long", func(w http.ResponseWriter, r *http.Request, blob []byte) {
			serve(w, r, string(blob)+"x")
		}, []string{"content range", fmt.Sprint(weightsSize)}},
		{"another range", func(w http.ResponseWriter, r *http.Request, blob []byte) {
			r.Header.Set("Range", "bytes=5-9")
			serve(w, r, string(blob))
		}, []string{`content range "bytes 5-9/`}},
		{"more than the range", func(w http.ResponseWriter, r *http.Request, _ []byte) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %s/%d", strings.TrimPrefix(r.Header.Get("Range"), "bytes="), weightsSize))
			w.WriteHeader(http.StatusPartialContent)
			for range 10 * partSize / 1024 {
				if _, err := w.Write(make([]byte, 1024)); err != nil {
					return
				}
			}
		}, []string{"more bytes than it announced"}},
		{"too short, without ranges", func(w http.ResponseWriter, _ *http.Request, blob []byte) {
			if _, err := w.Write(blob[:100]); err != nil {
				panic(http.ErrAbortHandler)
			}
		}, []string{"status 200 and 100 bytes", fmt.Sprint(weightsSize)}},
		{"empty range", func(w http.ResponseWriter, _ *http.Request, _ []byte) {
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		}, []string{"model.safetensors", "does not support ranges"}},
		{"signature expired", func(w http.ResponseWriter, _ *http.Request, _ []byte) {
			w.WriteHeader(http.StatusForbidden)
		}, []string{"model.safetensors", "403", "not the hub"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, c := start(t)
			s.SetContent(send(test.serve))
			_, err := c.Pull(t.Context(), toRef(t, model), PullOptions{})
			wantError(t, err, test.words...)
			checkNoBrokenBlobs(t, c)
			s.SetContent(nil)
			pullModel(t, s, c, model)
		})
	}
	t.Run("small file", func(t *testing.T) {
		s, c := start(t)
		s.SetContent(func(w http.ResponseWriter, r *http.Request, blob []byte) bool {
			if string(blob) == "[PAD]\n" {
				serve(w, r, "[BAD]\n")
			}
			return string(blob) == "[PAD]\n"
		})
		_, err := c.Pull(t.Context(), toRef(t, model), PullOptions{})
		wantError(t, err, "vocab.txt", "wrong git blob id", "expected "+hubtest.ETag("vocab.txt", []byte("[PAD]\n")))
	})
}

// TestNoRanges downloads from a server that ignores ranges and cuts responses.
func TestNoRanges(t *testing.T) {
	s, c := start(t)
	var mu sync.Mutex
	cuts := 2
	s.SetContent(func(w http.ResponseWriter, r *http.Request, blob []byte) bool {
		if len(blob) != weightsSize {
			return false
		}
		mu.Lock()
		cut := r.Header.Get("Range") == "" && cuts > 0
		if cut {
			cuts--
		}
		mu.Unlock()
		r.Header.Del("Range")
		if cut {
			hubtest.Cut(w, r, blob, 100_000)
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(blob)))
		if _, err := w.Write(blob); err != nil {
			panic(http.ErrAbortHandler)
		}
		return true
	})
	pullModel(t, s, c, model)
	if cuts != 0 {
		t.Error("no response was cut")
	}
}

// TestStalled checks that a pull continues after the server stops sending, before
// the headers or after them.
func TestStalled(t *testing.T) {
	s, c := start(t)
	c.limits.answer, c.limits.idle = time.Second, time.Second
	var mu sync.Mutex
	stalls := 0
	ended := make(chan struct{})
	defer close(ended)
	stall := func(r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-ended:
		}
		panic(http.ErrAbortHandler)
	}
	s.SetHub(func(_ http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		first := stalls == 0
		stalls++
		mu.Unlock()
		if first {
			stall(r)
		}
		return false
	})
	s.SetContent(func(w http.ResponseWriter, r *http.Request, blob []byte) bool {
		if r.Header.Get("Range") != fmt.Sprintf("bytes=0-%d", partSize-1) {
			return false
		}
		w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", partSize-1, weightsSize))
		w.WriteHeader(http.StatusPartialContent)
		if _, err := w.Write(blob[:1000]); err != nil {
			panic(http.ErrAbortHandler)
		}
		w.(http.Flusher).Flush()
		stall(r)
		return true
	})
	pullModel(t, s, c, model)
	if got := s.Sent(weightsTag()); got != weightsSize {
		t.Errorf("%d bytes were sent, want %d", got, weightsSize)
	}
}

// TestStalledForGood checks that a pull gives up in bounded time with the reason.
func TestStalledForGood(t *testing.T) {
	s, c := start(t)
	c.limits.answer, c.limits.tries = 100*time.Millisecond, 2
	ended := make(chan struct{})
	defer close(ended)
	s.SetHub(func(http.ResponseWriter, *http.Request) bool {
		<-ended
		return true
	})
	_, err := c.Pull(t.Context(), toRef(t, model), PullOptions{})
	wantError(t, err, "cannot reach the hub", "timeout", "2 tries", "--model builtin")
}

// TestSlowIsNotStalled pulls from a server that sends a few bytes at a time.
func TestSlowIsNotStalled(t *testing.T) {
	s, c := start(t)
	c.limits.idle, c.limits.tries = 1500*time.Millisecond, 1
	s.SetContent(func(w http.ResponseWriter, _ *http.Request, blob []byte) bool {
		if string(blob) != "[PAD]\n" {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(blob)))
		for _, b := range blob {
			time.Sleep(300 * time.Millisecond)
			if _, err := w.Write([]byte{b}); err != nil {
				panic(http.ErrAbortHandler)
			}
			w.(http.Flusher).Flush()
		}
		return true
	})
	pullModel(t, s, c, model)
}

// TestFullDisk replaces a blob with a device that has no space, and checks that a
// later pull continues.
func TestFullDisk(t *testing.T) {
	full := "/dev/full"
	if _, err := os.Stat(full); err != nil {
		full = "" // no such device; TestFileSizeLimit covers the case
	}
	s, c := start(t)
	if full != "" {
		writeFile(t, filepath.Join(filepath.Dir(blobPath(c)), "x"), nil)
		if err := os.Symlink(full, blobPath(c)+incomplete); err != nil {
			t.Fatal(err)
		}
		_, err := c.Pull(t.Context(), toRef(t, model), PullOptions{})
		wantError(t, err, "model.safetensors", "no space left on device", "is full", "HF_HUB_CACHE", c.Cache())
		checkNoBrokenBlobs(t, c)
		if _, err := c.Find(toRef(t, model)); err == nil {
			t.Error("Find returns the incomplete model")
		}
		if err := os.Remove(blobPath(c) + incomplete); err != nil {
			t.Fatal(err)
		}
	}
	pullModel(t, s, c, model)
}

// TestReadOnlyCache finds a complete model, and checks that errors name the path
// that cannot be written.
func TestReadOnlyCache(t *testing.T) {
	s, c := start(t)
	snapshot := pullModel(t, s, c, model)
	if got, err := c.Find(toRef(t, model)); err != nil || got.Dir != snapshot.Dir {
		t.Errorf("%v, %v", got.Dir, err)
	}
	// Not even root can create a file below another file.
	writeFile(t, filepath.Join(c.Cache(), "models--org--other"), []byte("x"))
	s.Add("org/other", modelFiles())
	_, err := c.Pull(t.Context(), toRef(t, "org/other"), PullOptions{})
	wantError(t, err, "models--org--other")
}

func TestCheckBlobCancelled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	writeFile(t, path, []byte("x"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := checkBlob(ctx, path, strings.Repeat("0", 64)); err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Errorf("got %v", err)
	}
}
