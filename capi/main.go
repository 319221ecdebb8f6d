// Package main is libmlxr: the C API of mlxr.h over package engine, for apps that
// are not written in Go. `make capi` builds it as a dynamic library that contains
// the tokenizer, and as an archive.
//
// api.c has the exported C functions and each thread's last message. export.go has
// the Go functions that they call. The library never returns a pointer to Go's
// memory: a ranker is a number, and it copies the callers' texts.
package main

// #include "internal.h"
import "C"

func main() {} // never called; buildmode c-shared requires it
