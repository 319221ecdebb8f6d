package command

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cache"
	"github.com/mlxrank/mlxrank/engine"
)

// The memory of the cache of a command that answers requests, in MiB, by default and at
// most.
const (
	defaultCacheMB = 64
	maxCacheMB     = 1 << 20
)

// leastCache is the memory of a cache on disk, in bytes, if no more is asked for.
const leastCache = 16 << 20

// CacheFlag returns the flag --cache.
func CacheFlag() cli.Flag {
	return &cli.StringFlag{Name: "cache", DefaultText: "none", Usage: "`DIR` that keeps scores between runs; others cannot read it"}
}

// SetCache opens the cache of --cache, with so many bytes in memory, for the engine, and
// returns the function that closes it after the engine. Without a directory and without
// memory there is none.
func SetCache(c *cli.Context, config *engine.Config, memory int64) (closeCache func() error, err error) {
	dir := c.String("cache")
	switch {
	case c.IsSet("cache") && dir == "":
		return nil, Usagef("%s is empty", Source(c, "cache"))
	case dir == "" && memory == 0:
		return func() error { return nil }, nil
	case memory == 0:
		memory = leastCache
	}
	opened, err := cache.Open(cache.Config{MemoryBytes: memory, Dir: dir, Logger: config.Logger})
	if err != nil {
		return nil, err
	}
	config.Cache = opened
	return opened.Close, nil
}

// ServerCacheFlags returns the flags of the cache of a command that answers requests.
func ServerCacheFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "cache-mb", Value: defaultCacheMB, DefaultText: fmt.Sprint(defaultCacheMB), Usage: "memory `N` for scores of earlier requests, in MiB; 0 for none"},
		CacheFlag(),
	}
}

// SetServerCache does as SetCache does, with the memory of --cache-mb.
func SetServerCache(c *cli.Context, config *engine.Config) (closeCache func() error, err error) {
	n := c.Int("cache-mb")
	if n < 0 || n > maxCacheMB {
		return nil, Usagef("%s is %d; expected 0 to %d", Source(c, "cache-mb"), n, maxCacheMB)
	}
	return SetCache(c, config, int64(n)<<20)
}
