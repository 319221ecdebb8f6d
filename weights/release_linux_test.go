package weights

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"
	"unsafe"
)

// TestOpenReleasesFiles opens a model whose numbers have all been read, and expects few of
// its file's pages in the process's memory. Reading them again brings them back.
func TestOpenReleasesFiles(t *testing.T) {
	t.Parallel()
	model, err := Open(t.Context(), Builtin, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := model.Close(); err != nil {
			t.Error(err)
		}
	})
	size := 0
	for _, file := range model.files {
		size += len(file)
	}
	before := resident(t, model.files)
	if before > size/10 {
		t.Errorf("%d bytes of %d are in memory, want a tenth at most", before, size)
	}
	sum := byte(0)
	for _, file := range model.files {
		for i := 0; i < len(file); i += 4096 {
			sum += file[i]
		}
	}
	if after := resident(t, model.files); after < size*9/10 {
		t.Errorf("%d bytes of %d are in memory after all were read (sum %d), want most", after, size, sum)
	}
}

// resident returns how many bytes of the mappings are in the process's memory.
func resident(t *testing.T, mappings []mapping) int {
	t.Helper()
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // read only
	starts := map[string]bool{}
	for _, m := range mappings {
		starts[fmt.Sprintf("%x", uintptr(unsafe.Pointer(&m[0])))] = true
	}
	total, inside := 0, false
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := lines.Text()
		var kb int
		if begin, _, ok := strings.Cut(line, "-"); ok && !strings.Contains(begin, ":") {
			inside = starts[begin]
		} else if _, err := fmt.Sscanf(line, "Rss: %d kB", &kb); err == nil && inside {
			total += kb << 10
		}
	}
	return total
}
