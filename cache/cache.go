// Package cache keeps the results of pairs, in memory and on disk, for
// engine.Config.Cache.
//
// A [Cache] maps keys, which are hashes, to short strings. The engine makes keys of
// everything that a logit depends on, so entries never expire. One Cache may serve
// several engines. Several processes may share a directory at once.
package cache

import (
	"cmp"
	"fmt"
	"sync/atomic"

	"github.com/maypok86/otter/v2"
	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/internal/telemetry"
)

// entryBytes is the memory of an entry besides the bytes of its value: the key, the
// nodes of the policy and of the table, and the allocator's rounding.
// TestMemoryOfEntries measures it.
const entryBytes = 136

// Config sets where results are kept.
type Config struct {
	MemoryBytes int64 // budget in memory, at least 1
	// Dir is the directory of the store on disk, "" for none. Open makes it, for this
	// user only. It must be on a local file system. The store keeps up to 1 GiB.
	Dir    string
	Logger zerolog.Logger

	diskBytes int64 // limit of the store, 0 for maxDiskBytes
}

// Usage describes what a cache holds. It is identical to engine.CacheUsage.
type Usage = telemetry.CacheUsage

// A Cache keeps values by key. Its methods are safe for any number of goroutines.
type Cache struct {
	memory *otter.Cache[[32]byte, string]
	limit  int64
	disk   *disk // nil without a directory
	closed atomic.Bool
}

// Open opens a cache. A store on disk that is damaged is replaced by an empty one.
func Open(c Config) (*Cache, error) {
	if c.MemoryBytes < 1 {
		return nil, fmt.Errorf("cache: the budget in memory is %d bytes; expected at least 1", c.MemoryBytes)
	}
	memory, err := otter.New(&otter.Options[[32]byte, string]{
		MaximumWeight: uint64(c.MemoryBytes),
		Weigher:       func(_ [32]byte, value string) uint32 { return uint32(entryBytes + len(value)) },
	})
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	opened := &Cache{memory: memory, limit: c.MemoryBytes}
	if c.Dir != "" {
		if opened.disk, err = openDisk(c.Dir, cmp.Or(c.diskBytes, maxDiskBytes), c.Logger); err != nil {
			return nil, err
		}
	}
	return opened, nil
}

// Get sets the value of each key, "" for a key without one.
func (c *Cache) Get(keys [][32]byte, values []string) {
	missing := 0
	for i, key := range keys {
		value, ok := c.memory.GetIfPresent(key)
		if !ok {
			missing++
		}
		values[i] = value
	}
	if c.disk == nil || missing == 0 || c.closed.Load() {
		return
	}
	for _, i := range c.disk.get(keys, values) {
		c.memory.Set(keys[i], values[i])
	}
}

// Put keeps values, which are not empty. They reach the disk a little later.
func (c *Cache) Put(keys [][32]byte, values []string) {
	if c.closed.Load() {
		return
	}
	for i, key := range keys {
		c.memory.Set(key, values[i])
	}
	if c.disk != nil {
		c.disk.put(keys, values)
	}
}

// Lasts reports whether entries outlive the process.
func (c *Cache) Lasts() bool { return c.disk != nil }

// Usage returns how much is in memory and on disk.
func (c *Cache) Usage() Usage {
	c.memory.CleanUp() // weights are counted a little later otherwise
	u := Usage{Entries: int64(c.memory.EstimatedSize()), Bytes: int64(c.memory.WeightedSize()), Limit: c.limit}
	if c.disk != nil {
		u.DiskBytes = c.disk.bytes()
	}
	return u
}

// Close writes to disk what is not there yet. Later calls of Put do nothing.
func (c *Cache) Close() error {
	if c.closed.Swap(true) || c.disk == nil {
		return nil
	}
	return c.disk.close()
}
