// Package test tries libmlxr from C, C++ and Python, as `make capi` has built
// it. The programs are in programs, since Go wants no C beside it here.
package test
