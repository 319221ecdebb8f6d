// Package test tests the libmlxr that `make capi` builds, from C, C++ and Python.
// The programs are in a folder of their own, because Go would compile C files here.
package test
