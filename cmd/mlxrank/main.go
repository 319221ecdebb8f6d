// Command mlxrank scores query-document pairs with cross-encoders on MLX.
package main

import (
	"context"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/mlxrank/mlxrank/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), shutdownSignals()...)
	// The first signal starts an orderly shutdown and removes the handlers, so that
	// a second signal kills the process. A closed terminal sends SIGHUP twice: from
	// its shell and from the system.
	context.AfterFunc(ctx, func() {
		signal.Ignore(syscall.SIGHUP)
		stop()
	})
	// Without the signal, a write beyond the file size limit returns an error.
	signal.Ignore(syscall.SIGXFSZ)
	os.Exit(cli.Run(ctx, os.Args, cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}

// shutdownSignals lists the signals that start an orderly shutdown. Signals that are
// ignored at start, as under nohup, stay ignored.
func shutdownSignals() []os.Signal {
	return slices.DeleteFunc([]os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP}, signal.Ignored)
}
