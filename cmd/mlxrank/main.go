// Command mlxrank scores query-document pairs with cross-encoders on MLX.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/mlxrank/mlxrank/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal asks for an orderly end; the handlers are then gone, so
	// that a second one kills.
	context.AfterFunc(ctx, stop)
	// A write beyond a limit on the size of files is then an error like others.
	signal.Ignore(syscall.SIGXFSZ)
	os.Exit(cli.Run(ctx, os.Args, cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
