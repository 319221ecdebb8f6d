package main

// #include "internal.h"
import "C"

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/mlx"
	"github.com/mlxrank/mlxrank/weights"
)

// Limits of counts and lengths. A larger value is a mistake of the host, such as a
// length that was never set; Go would end the host if memory ran out.
const (
	maxTexts     = 1 << 24
	maxTextBytes = 1 << 28
	maxCallBytes = 1 << 30

	maxOptionBytes = 1 << 16
	maxThreads     = 1024 // libmlxrank's limit
	maxIdleUnload  = math.MaxInt64 / int64(time.Millisecond)
)

// checkSize refuses a caller that was compiled with another header.
func checkSize(name string, size C.int64_t, want int64) error {
	if int64(size) != want {
		return invalid("%s has size %d, expected %d: set it to sizeof(%s), and compile with the header of this library", name, int64(size), want, name)
	}
	return nil
}

// A label names a text in messages: "query" or "document 3".
type label struct {
	name  string
	index int // -1 for none
}

func (l label) String() string {
	if l.index < 0 {
		return l.name
	}
	return fmt.Sprintf("%s %d", l.name, l.index)
}

// text copies a text, because a cancelled call returns while the library may still
// read it. left is how many bytes the call's remaining texts may have.
func text(t *C.mlxr_text, of label, left *int64) (string, error) {
	if t == nil {
		return "", invalid("%s is NULL", of)
	}
	if t.bytes < 0 || t.data == nil && t.bytes > 0 {
		return "", invalid("%s has data %p and %d bytes", of, t.data, int64(t.bytes))
	}
	if t.bytes > maxTextBytes {
		return "", failf(C.MLXR_TOO_LARGE, "%s has %d bytes (limit %d)", of, int64(t.bytes), maxTextBytes)
	}
	if *left -= int64(t.bytes); *left < 0 {
		return "", failf(C.MLXR_TOO_LARGE, "with %s the texts of the call have %d bytes (limit %d): split it", of, maxCallBytes-*left, maxCallBytes)
	}
	s := strings.Clone(unsafe.String((*byte)(unsafe.Pointer(t.data)), int(t.bytes)))
	for at, r := range s {
		if r == utf8.RuneError && !strings.HasPrefix(s[at:], string(utf8.RuneError)) {
			return "", failf(C.MLXR_NOT_UTF8, "%s is not UTF-8: of its %d bytes, byte %d is 0x%02x", of, len(s), at, s[at])
		}
	}
	return s, nil
}

// texts copies an array of texts.
func texts(first *C.mlxr_text, count C.int64_t, name string, left *int64) ([]string, error) {
	if count < 0 || count > maxTexts {
		return nil, invalid("%d texts (%s), expected 0 to %d", int64(count), name, maxTexts)
	}
	if first == nil && count > 0 {
		return nil, invalid("the pointer to %d texts (%s) is NULL", int64(count), name)
	}
	given := unsafe.Slice(first, int(count))
	list := make([]string, count)
	for i := range given {
		var err error
		if list[i], err = text(&given[i], label{name, i}, left); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// newConfig returns the engine's configuration for the host's options.
func newConfig(o *C.mlxr_options) (engine.Config, error) {
	if o == nil {
		return engine.Config{}, invalid("options are NULL")
	}
	if err := checkSize("mlxr_options", o.size, C.sizeof_mlxr_options); err != nil {
		return engine.Config{}, err
	}
	cfg := engine.Config{
		MaxLength:   int(o.max_length),
		Threads:     int(o.threads),
		CacheLimit:  int64(o.cache_limit),
		MemoryLimit: int64(o.memory_limit),
		IdleUnload:  time.Duration(o.idle_unload_ms) * time.Millisecond,
	}
	for _, field := range []struct {
		name string
		from *C.mlxr_text
		to   *string
	}{
		{"model", &o.model, &cfg.Model}, {"adapter", &o.adapter, &cfg.Adapter},
		{"label", &o.label, &cfg.Label}, {"library", &o.library, &cfg.Library},
	} {
		left := int64(maxOptionBytes)
		if field.from.bytes > maxOptionBytes {
			return cfg, failf(C.MLXR_TOO_LARGE, "options: %s has %d bytes (limit %d)", field.name, int64(field.from.bytes), maxOptionBytes)
		}
		var err error
		if *field.to, err = text(field.from, label{field.name, -1}, &left); err != nil {
			return cfg, err
		}
	}
	for _, field := range []struct {
		name  string
		value C.int32_t
		names []string
		to    *string
	}{
		{"device", o.device, []string{"auto", "gpu", "cpu"}, (*string)(&cfg.Device)},
		{"dtype", o.dtype, []string{"auto", "float32", "float16", "bfloat16", "int8", "int8w", "int4w"}, (*string)(&cfg.DType)},
		{"scores", o.scores, []string{"auto", "raw", "sigmoid", "softmax"}, (*string)(&cfg.Activation)},
	} {
		if field.value < 0 || int(field.value) >= len(field.names) {
			return cfg, invalid("options: %s is %d, expected 0 to %d", field.name, int32(field.value), len(field.names)-1)
		}
		*field.to = field.names[field.value]
	}
	if o.max_length != 0 && o.max_length < 3 || min(o.max_length, o.threads) < 0 || min(o.memory_limit, o.idle_unload_ms) < 0 {
		return cfg, invalid("options: max_length is %d (expected 0 or at least 3), threads %d, memory_limit %d, idle_unload_ms %d (expected none negative)",
			int32(o.max_length), int32(o.threads), int64(o.memory_limit), int64(o.idle_unload_ms))
	}
	if o.threads > maxThreads {
		return cfg, invalid("options: threads is %d (limit %d)", int32(o.threads), maxThreads)
	}
	if int64(o.idle_unload_ms) > maxIdleUnload {
		return cfg, invalid("options: idle_unload_ms is %d (limit %d)", int64(o.idle_unload_ms), maxIdleUnload)
	}
	cfg.Model = cmp.Or(cfg.Model, weights.Default)
	findBeside(&cfg)
	return cfg, nil
}

// findBeside searches the folder of an installed libmlxr for libmlxrank and the
// builtin encoder. In an app that embeds frameworks, libmlxrank is in the framework
// beside libmlxr's (internal/bundle). Packages mlx and weights search
// the folder of the host's executable, which may be anywhere. Environment variables
// take precedence there.
func findBeside(cfg *engine.Config) {
	folder := ownFolder()
	if folder == "" {
		return
	}
	if cfg.Library == "" && os.Getenv(mlx.LibraryEnv) == "" {
		name := mlx.LibraryFile
		cfg.Library = firstThatExists(filepath.Join(folder, name), filepath.Join(folder, "mlxrank", name),
			filepath.Join(folder, "../../../MLXRankNative.framework/Versions/A/MLXRankNative"))
	}
	if cfg.Model == weights.Builtin && os.Getenv(weights.BuiltinEnv) == "" {
		const encoder = "mlxrank/models/" + weights.BuiltinEncoder
		cfg.BuiltinDir = firstThatExists(filepath.Join(folder, "../share", encoder), filepath.Join(folder, "../Resources", encoder))
	}
}

// ownFolder returns the folder of libmlxr, or of the program it is linked into.
func ownFolder() string {
	var path [4096]C.char
	C.mlxrgo_own_file(&path[0], C.int64_t(len(path)))
	file := C.GoString(&path[0])
	if file == "" {
		return ""
	}
	if target, err := filepath.EvalSymlinks(file); err == nil {
		file = target
	}
	return filepath.Dir(file)
}

func firstThatExists(paths ...string) string {
	for _, path := range paths {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return ""
}
