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
	// Without the signal, a write beyond the file size limit returns an error.
	signal.Ignore(syscall.SIGXFSZ)
	os.Exit(cli.Run(untilSignal(), os.Args, cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}

// untilSignal returns a context that the first signal cancels, for an orderly shutdown.
// The second signal kills the process: the handlers are removed before the context
// ends, so that a program that is seen to stop never ignores it. SIGHUP is ignored
// from then on, since a closed terminal sends it twice: from its shell and from the
// system.
func untilSignal() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	arrived := make(chan os.Signal, 1)
	signal.Notify(arrived, shutdownSignals()...)
	go func() {
		<-arrived
		signal.Ignore(syscall.SIGHUP)
		signal.Stop(arrived)
		cancel()
	}()
	return ctx
}

// shutdownSignals lists the signals that start an orderly shutdown. Signals that are
// ignored at start, as under nohup, stay ignored.
func shutdownSignals() []os.Signal {
	return slices.DeleteFunc([]os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP}, signal.Ignored)
}
