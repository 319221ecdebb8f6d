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
	ctx, stop := signal.NotifyContext(context.Background(), endings()...)
	// The first signal asks for an orderly end; the handlers are then gone, so
	// that a second one kills. A terminal that is closed sends SIGHUP twice, by its
	// shell and by the system.
	context.AfterFunc(ctx, func() {
		signal.Ignore(syscall.SIGHUP)
		stop()
	})
	// A write beyond a limit on the size of files is then an error like others.
	signal.Ignore(syscall.SIGXFSZ)
	os.Exit(cli.Run(ctx, os.Args, cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}

// endings lists the signals that end a run in an orderly way. Those that were
// ignored when the program began, as by nohup, stay ignored.
func endings() []os.Signal {
	var signals []os.Signal
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(s) {
			signals = append(signals, s)
		}
	}
	return signals
}
