// Command mlxrank scores query-document pairs with cross-encoders on MLX.
package main

import (
	"context"
	"os"
	"os/signal"
	"slices"
	"sync/atomic"
	"syscall"

	"github.com/mlxrank/mlxrank/cli"
)

func main() {
	// Without the signal, a write beyond the file size limit returns an error.
	signal.Ignore(syscall.SIGXFSZ)
	ctx, hangups := untilSignal()
	os.Exit(cli.Run(ctx, os.Args, cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Hangups: hangups}))
}

// untilSignal returns a context that the first signal cancels, for an orderly shutdown.
// The second signal kills the process: the handlers are removed before the context
// ends, so that a program that is seen to stop never ignores it. SIGHUP is ignored
// from then on, since a closed terminal sends it twice: from its shell and from the
// system.
//
// A command that calls hangups gets each SIGHUP from then on, also under nohup and when
// the terminal closes, and it is no shutdown any more. The signal has a channel of its
// own, so that it never takes the place of another one.
func untilSignal() (ctx context.Context, hangups func() <-chan struct{}) {
	ctx, cancel := context.WithCancel(context.Background())
	arrived, hangup := make(chan os.Signal, 1), make(chan os.Signal, 1)
	notify(arrived, os.Interrupt, syscall.SIGTERM)
	notify(hangup, syscall.SIGHUP)
	var taken atomic.Bool
	forward := make(chan struct{}, 1)
	go func() {
		for waits := true; waits; {
			select {
			case <-arrived:
				waits = false
			case <-hangup:
				if waits = taken.Load(); waits {
					offer(forward)
				}
			}
		}
		signal.Ignore(syscall.SIGHUP)
		signal.Stop(arrived)
		cancel()
	}()
	return ctx, func() <-chan struct{} {
		taken.Store(true)
		signal.Notify(hangup, syscall.SIGHUP)
		return forward
	}
}

// offer sends unless something waits already: files that are read later need no second
// reading.
func offer(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// notify relays signals, except those that are ignored at the start, as SIGHUP is under
// nohup.
func notify(c chan<- os.Signal, signals ...os.Signal) {
	if signals = slices.DeleteFunc(signals, signal.Ignored); len(signals) > 0 { // without any, all would be relayed
		signal.Notify(c, signals...)
	}
}
