// Package main is libmlxr, the C API of mlxr.h over package engine, for apps
// that are not written in Go. `make capi` builds it as a dynamic library with
// the tokenizer inside, and as an archive.
//
// api.c has the exported functions and each thread's last message; the Go
// functions behind them are in export.go. Nothing of Go's memory is handed out:
// a ranker is a number, and what callers give is copied.
package main

// #include "internal.h"
import "C"

func main() {} // never called: buildmode c-shared wants one
