package cache

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/rs/zerolog"
)

// key and value make an entry whose value names its key.
func key(i int) [32]byte { return sha256.Sum256(binary.LittleEndian.AppendUint64(nil, uint64(i))) }

func value(i int) string { return fmt.Sprintf("%08d", i) }

func put(c *Cache, from, to int) {
	var keys [][32]byte
	var values []string
	for i := from; i < to; i++ {
		keys, values = append(keys, key(i)), append(values, value(i))
	}
	c.Put(keys, values)
}

// found counts the entries of a range that a cache has. A wrong value fails the test.
func found(t testing.TB, c *Cache, from, to int) int {
	t.Helper()
	n := 0
	for i := from; i < to; i++ {
		got := make([]string, 1)
		c.Get([][32]byte{key(i)}, got)
		if got[0] != "" && got[0] != value(i) {
			t.Fatalf("entry %d is %q", i, got[0])
		}
		if got[0] != "" {
			n++
		}
	}
	return n
}

func open(t testing.TB, c Config) *Cache {
	t.Helper()
	if c.MemoryBytes == 0 {
		c.MemoryBytes = 1 << 20
	}
	opened, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeCache(t, opened) })
	return opened
}

func closeCache(t testing.TB, c *Cache) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestMemory(t *testing.T) {
	c := open(t, Config{})
	if n := found(t, c, 0, 10); n != 0 {
		t.Errorf("an empty cache has %d entries", n)
	}
	put(c, 0, 100)
	if n := found(t, c, 0, 110); n != 100 {
		t.Errorf("%d entries of 100", n)
	}
	if u := c.Usage(); u.Entries != 100 || u.Bytes != 100*(entryBytes+8) || u.Limit != 1<<20 || c.Lasts() {
		t.Errorf("usage is %+v", u)
	}
	if _, err := Open(Config{}); err == nil {
		t.Error("a budget of 0 is accepted")
	}
}

// TestMemoryOfEntries compares the bytes that entries count as with the growth of the
// heap, while entries come and go.
func TestMemoryOfEntries(t *testing.T) {
	const budget = 16 << 20
	before := heap()
	c := open(t, Config{MemoryBytes: budget})
	put(c, 0, 60_000)
	used, counted := heap()-before, c.Usage().Bytes
	t.Logf("%d entries count as %d bytes and take %d", c.Usage().Entries, counted, used)
	if used > counted || used < counted/2 {
		t.Errorf("entries that count as %d bytes take %d", counted, used)
	}
	for from := 60_000; from < 240_000; from += 20_000 {
		put(c, from, from+20_000)
	}
	used = heap() - before
	t.Logf("after 240,000 entries %d bytes are used, %d counted", used, c.Usage().Bytes)
	if used > budget*5/4 || c.Usage().Bytes > budget {
		t.Errorf("a budget of %d bytes: %d in use, %d counted", budget, used, c.Usage().Bytes)
	}
	runtime.KeepAlive(c)
}

func heap() int64 {
	for range 3 {
		runtime.GC()
		time.Sleep(10 * time.Millisecond)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "cache")
	c := open(t, Config{Dir: dir})
	put(c, 0, 3000)
	closeCache(t, c)
	put(c, 3000, 3001) // does nothing
	again := open(t, Config{Dir: dir})
	if n := found(t, again, 0, 3001); n != 3000 {
		t.Errorf("%d entries of 3000 after reopening", n)
	}
	if u := again.Usage(); u.DiskBytes < 3000*40 || u.DiskBytes > 3000*200 || u.Entries != 3000 || !again.Lasts() {
		t.Errorf("usage is %+v", u)
	}
}

// TestFullDisk checks that a full store drops some entries and keeps others, also in one
// write that is larger than the store.
func TestFullDisk(t *testing.T) {
	const limit, entries = 256 << 10, 20_000 // of some 60 bytes
	full := Config{Dir: t.TempDir(), diskBytes: limit}
	for from := 0; from < entries; from += entries / 4 {
		c := open(t, full)
		put(c, from, from+entries/4)
		closeCache(t, c)
		if bytes := c.Usage().DiskBytes; bytes > limit || bytes < limit/2 {
			t.Errorf("%d entries have %d bytes on disk, the limit is %d", from+entries/4, bytes, limit)
		}
	}
	n := found(t, open(t, full), 0, entries)
	t.Logf("%d of %d entries are left", n, entries)
	if n < limit/200 || n > limit/40 {
		t.Errorf("%d of %d entries are left within %d bytes", n, entries, limit)
	}
	c := open(t, full)
	put(c, entries, entries+100)
	closeCache(t, c)
	if n := found(t, open(t, full), entries, entries+100); n < 50 {
		t.Errorf("a full store has %d of 100 new entries", n)
	}
}

// TestPermissions expects files that only their owner can read, whatever the umask and
// the directory allow.
func TestPermissions(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	parent := t.TempDir()
	for name, mode := range map[string]fs.FileMode{"made": 0, "given": 0o755} {
		dir := filepath.Join(parent, name)
		if mode != 0 {
			if err := os.Mkdir(dir, mode); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, fileName), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		c := open(t, Config{Dir: dir})
		put(c, 0, 10)
		time.Sleep(4 * writeDelay)
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 3 {
			t.Fatalf("%s: %d files: %v", name, len(entries), err)
		}
		for _, entry := range entries {
			if info, err := entry.Info(); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %s has mode %v: %v", name, entry.Name(), info.Mode(), err)
			}
		}
		if info, err := os.Stat(dir); err != nil || mode == 0 && info.Mode().Perm() != 0o700 {
			t.Errorf("%s: the directory has mode %v: %v", name, info.Mode(), err)
		}
	}
	loose := filepath.Join(parent, "loose")
	if err := os.Mkdir(loose, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{MemoryBytes: 1, Dir: loose}); err == nil || !strings.Contains(err.Error(), "chmod go-w") {
		t.Errorf("a directory that others can write to: %v", err)
	}
	if isForeign(1000, 1000) || isForeign(0, 1000) || isForeign(1000, 0) || !isForeign(1001, 1000) {
		t.Error("the owner of a directory is judged wrongly")
	}
	for _, dir := range []string{filepath.Join(parent, "made", fileName), filepath.Join(parent, "made", fileName, "x")} {
		if _, err := Open(Config{MemoryBytes: 1, Dir: dir}); err == nil || !strings.Contains(err.Error(), "choose another directory") {
			t.Errorf("a file as the directory %s, or above it: %v", dir, err)
		}
	}
}

// TestDamage changes the files of a closed store. No entry may come back wrong, and the
// store must work again.
func TestDamage(t *testing.T) {
	random := func(n int) []byte {
		r, data := rand.New(rand.NewPCG(1, 2)), make([]byte, n)
		for i := range data {
			data[i] = byte(r.UintN(256))
		}
		return data
	}
	for name, damage := range map[string]func(data []byte) []byte{
		"nothing":          func(data []byte) []byte { return data },
		"empty":            func([]byte) []byte { return nil },
		"half":             func(data []byte) []byte { return data[:len(data)/2] },
		"odd length":       func(data []byte) []byte { return data[:len(data)-1000] },
		"garbage":          func(data []byte) []byte { return random(len(data)) },
		"garbage behind":   func(data []byte) []byte { return append(data[:4096:4096], random(len(data)-4096)...) },
		"a line of text":   func([]byte) []byte { return []byte("this is no database\n") },
		"every 1000th bit": flip(1000 * 8), "every 300th byte": flip(300),
		"values": func(data []byte) []byte {
			text := string(data)
			for i := range 3000 {
				text = strings.ReplaceAll(text, value(i), value(i+1))
			}
			return []byte(text)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c := open(t, Config{Dir: dir})
			put(c, 0, 3000)
			closeCache(t, c)
			path := filepath.Join(dir, fileName)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, damage(data), 0o600); err != nil {
				t.Fatal(err)
			}
			damaged := open(t, Config{Dir: dir, Logger: zerolog.New(t.Output())})
			n := found(t, damaged, 0, 3000)
			t.Logf("%d of 3000 entries are left", n)
			if name == "nothing" && n != 3000 || name == "values" && n != 0 {
				t.Errorf("%d entries are left", n)
			}
			put(damaged, 0, 3000)
			time.Sleep(4 * writeDelay)
			put(damaged, 3000, 6000)
			closeCache(t, damaged)
			after := open(t, Config{Dir: dir})
			if n := found(t, after, 3000, 6000); n < 2900 {
				t.Errorf("%d of 3000 entries were stored after the damage", n)
			}
		})
	}
}

func flip(every int) func([]byte) []byte {
	return func(data []byte) []byte {
		for i := every; i < len(data); i += every {
			data[i] ^= 0x10
		}
		return data
	}
}

// TestRemovedWhileOpen damages the files under an open cache, and removes them.
func TestRemovedWhileOpen(t *testing.T) {
	dir := t.TempDir()
	c := open(t, Config{Dir: dir})
	put(c, 0, 1000)
	time.Sleep(4 * writeDelay)
	if err := os.Truncate(filepath.Join(dir, fileName), 0); err != nil {
		t.Fatal(err)
	}
	put(c, 1000, 2000)
	time.Sleep(4 * writeDelay)
	other := open(t, Config{Dir: dir})
	found(t, other, 0, 2000)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	put(c, 2000, 3000)
	if n := found(t, c, 2000, 3000); n != 1000 {
		t.Errorf("%d of 1000 entries in memory", n)
	}
}

const childEnv = "MLXRANK_TEST_CACHE_CHILD"

// TestMain is also the process that writes without end.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		c, err := Open(Config{MemoryBytes: 1 << 20, Dir: dir, Logger: zerolog.New(os.Stderr)})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		for i := 0; ; i += 500 {
			put(c, i%100_000, i%100_000+500)
			if i == 0 {
				for c.Usage().DiskBytes < 5*pageBytes { // until they are on disk
					time.Sleep(time.Millisecond)
				}
				fmt.Println("wrote")
			}
			time.Sleep(time.Millisecond)
		}
	}
	os.Exit(m.Run())
}

// startWriter starts a process that writes to dir until it is killed, and waits for its
// first entries on disk.
func startWriter(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	child := exec.CommandContext(ctx, os.Args[0])
	child.Env = append(os.Environ(), childEnv+"="+dir)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err == nil {
		err = child.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return child
}

func kill(t *testing.T, child *exec.Cmd) {
	t.Helper()
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := child.Wait(); !errors.As(err, &exit) {
		t.Fatal(err)
	}
}

// TestKilled kills processes while they write. What is stored must be right, and the
// next process must find a sound store.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	last := 0
	for i := range 6 {
		child := startWriter(t, dir)
		time.Sleep(time.Duration(150+37*i) * time.Millisecond)
		kill(t, child)
		c := open(t, Config{Dir: dir})
		n := found(t, c, 0, 10_000)
		if n < last || n == 0 {
			t.Errorf("%d entries, %d before", n, last)
		}
		last = n
		put(c, 200_000, 200_100)
		closeCache(t, c)
		if again := open(t, Config{Dir: dir}); found(t, again, 200_000, 200_100) != 100 {
			t.Error("entries of a process that ended in order are missing")
		}
		if problem := check(t, filepath.Join(dir, fileName)); problem != "ok" {
			t.Errorf("the store is not sound: %s", problem)
		}
	}
	t.Logf("%d entries", last)
}

// check returns what SQLite finds of a database, "ok" if it is sound.
func check(t *testing.T, path string) string {
	t.Helper()
	conn, err := sqlite3.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}()
	stmt, _, err := conn.Prepare(`PRAGMA integrity_check`)
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	for stmt.Step() {
		text += stmt.ColumnText(0)
	}
	if err := stmt.Close(); err != nil {
		t.Fatal(err)
	}
	return text
}

// TestTwoProcesses shares a directory with a process that writes all the time. Each
// finds what the other has stored, and neither waits.
func TestTwoProcesses(t *testing.T) {
	dir := t.TempDir()
	child := startWriter(t, dir)
	c := open(t, Config{Dir: dir})
	put(c, 500_000, 501_000)
	deadline := time.Now().Add(time.Minute)
	for found(t, c, 0, 1000) == 0 {
		if time.Now().After(deadline) {
			t.Fatal("the other process's entries do not appear")
		}
		time.Sleep(10 * time.Millisecond)
	}
	start := time.Now()
	closeCache(t, c)
	if took := time.Since(start); took > time.Minute {
		t.Errorf("closing took %v", took)
	}
	kill(t, child)
	if n := found(t, open(t, Config{Dir: dir}), 500_000, 501_000); n != 1000 {
		t.Errorf("%d of 1000 entries that were written beside the other process", n)
	}
}

// TestLockedStore opens a store that another connection holds locked: nothing hangs, and
// the memory works.
func TestLockedStore(t *testing.T) {
	dir := t.TempDir()
	first := open(t, Config{Dir: dir})
	put(first, 0, 10)
	time.Sleep(4 * writeDelay)
	conn, err := sqlite3.Open(filepath.Join(dir, fileName))
	if err != nil {
		t.Fatal(err)
	}
	tx, err := conn.BeginImmediate()
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	c := open(t, Config{Dir: dir})
	if n := found(t, c, 0, 10); n != 10 {
		t.Errorf("%d of 10 entries while another process writes", n)
	}
	put(c, 10, 20)
	if n := found(t, c, 10, 20); n != 10 {
		t.Errorf("%d of 10 entries in memory", n)
	}
	closeCache(t, c)
	if took := time.Since(start); took > 20*busyTime {
		t.Errorf("a locked store costs %v", took)
	}
	if err := errors.Join(tx.Rollback(), conn.Close()); err != nil {
		t.Error(err)
	}
	closeCache(t, first)
	if n := found(t, open(t, Config{Dir: dir}), 0, 10); n != 10 {
		t.Errorf("%d of 10 entries afterwards", n)
	}
}

func BenchmarkGet(b *testing.B) {
	for name, dir := range map[string]string{"memory": "", "disk": b.TempDir()} {
		b.Run(name, func(b *testing.B) {
			c := open(b, Config{Dir: dir, MemoryBytes: 64 << 20})
			put(c, 0, 100_000)
			keys, values := make([][32]byte, 20), make([]string, 20)
			for i := 0; b.Loop(); i++ {
				for k := range keys {
					keys[k] = key((i*20 + k) % 100_000)
				}
				c.Get(keys, values)
			}
		})
	}
}
