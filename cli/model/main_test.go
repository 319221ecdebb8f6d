package model

import (
	"context"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/clitest/commandtest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/rerank"
)

var (
	runProgram = commandtest.New(Command, rerank.Command)
	mlxrank    = runProgram.Program()
)

// fileLimitEnv makes the test program a program that can write files of so many bytes only,
// as on a full disk.
const fileLimitEnv = "MLXRANK_TEST_FILE_LIMIT"

func TestMain(m *testing.M) {
	if limit := os.Getenv(fileLimitEnv); limit != "" {
		os.Exit(runLimited(limit))
	}
	os.Exit(clitest.Isolate(m))
}

func runLimited(limit string) int {
	bytes, err := strconv.ParseUint(limit, 10, 64)
	if err != nil {
		panic(err)
	}
	signal.Ignore(syscall.SIGXFSZ) // otherwise a write beyond the limit kills the process
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: bytes, Max: bytes}); err != nil {
		panic(err)
	}
	return runProgram(context.Background(), os.Args, command.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
}
