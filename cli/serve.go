package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/server"
	"github.com/mlxrank/mlxrank/server/dashboard"
	"github.com/mlxrank/mlxrank/weights"
)

func serveCommand(s command.Streams) *cli.Command {
	flags := append(serveFlags(), command.EngineFlags(weights.Default)...)
	command.SetLogLevel(flags, "info")
	return &cli.Command{
		Name:      "serve",
		Usage:     "answer rerank requests over HTTP",
		UsageText: "mlxrank serve [flags]",
		Description: "Serves POST /rerank and /predict as text-embeddings-inference, POST /v1/rerank as Jina and\n" +
			"version 1 of Cohere, POST /v2/rerank as Cohere, POST /score as vLLM; GET /info, /v1/models,\n" +
			"/health, /ready, /ping, /metrics (Prometheus), /openapi.json, /docs and a live /dashboard, to\n" +
			"which / leads a browser. Scores are 0 to 1, whatever --activation says, unless a call asks\n" +
			"for raw scores.\n\n" +
			"Without a key anybody who reaches the address may call. A key is the content of the\n" +
			"file of --api-key-file, or the value of " + command.KeyEnv + "; calls bring it as a bearer\n" +
			"token. Pages of other sites are refused unless --cors-origin names them. Without a key,\n" +
			"calls under a name that is not this machine's are refused unless --allowed-host gives it.\n\n" +
			"SIGTERM, SIGINT or SIGHUP ends the server: calls at work are finished, no more are\n" +
			"taken in, and the exit status is 0. A second SIGTERM or SIGINT ends it at once. Under\n" +
			"nohup SIGHUP is ignored.\n\n" +
			command.Examples(
				[2]string{"Serve the default model to this machine", "mlxrank serve"},
				[2]string{"Serve to the network, to those who have the key", "mlxrank serve --listen :8437 --api-key-file /etc/mlxrank/key"},
				[2]string{"Let the pages of a site call, and calls in under a name", "mlxrank serve --cors-origin 'https://*.example.org' --allowed-host rerank.example.org"},
				[2]string{"Ask it", `curl -s http://127.0.0.1:8437/rerank -H 'Content-Type: application/json' \` + "\n    " +
					`-d '{"query": "resize photos", "texts": ["An image editor.", "A mail reader."]}'`},
			),
		Flags:  flags,
		Action: func(c *cli.Context) error { return serve(c, s) },
	}
}

// serveFlags are those that serve alone has; environment and config file can
// set them too.
func serveFlags() []cli.Flag {
	d := server.DefaultLimits()
	return []cli.Flag{
		&cli.StringFlag{Name: "listen", Value: "127.0.0.1:8437", DefaultText: "127.0.0.1:8437", Usage: "answer at `ADDRESS:PORT`; :PORT is all addresses, port 0 any that is free"},
		&cli.StringFlag{Name: "api-key-file", DefaultText: "none", Usage: "ask for the key in `FILE`; " + command.KeyEnv + " holds one too"},
		&cli.StringSliceFlag{Name: "cors-origin", DefaultText: "none", Usage: "allow calls of pages of `ORIGIN`, such as https://example.org or https://*.example.org, or * for all; may be repeated"},
		&cli.StringSliceFlag{Name: "allowed-host", DefaultText: "addresses and this machine's names", Usage: "allow calls under the name `HOST`, or * for all; may be repeated"},
		&cli.IntFlag{Name: "max-documents", Value: d.Documents, DefaultText: fmt.Sprint(d.Documents), Usage: "take at most `N` documents a call"},
		&cli.IntFlag{Name: "max-characters", Value: d.Characters, DefaultText: fmt.Sprint(d.Characters), Usage: "take at most `N` characters a call"},
		&cli.Int64Flag{Name: "max-body", Value: d.BodyBytes, DefaultText: fmt.Sprint(d.BodyBytes), Usage: "take at most `N` bytes a call"},
		&cli.IntFlag{Name: "max-requests", Value: d.Requests, DefaultText: fmt.Sprint(d.Requests), Usage: "have at most `N` calls at work"},
		&cli.IntFlag{Name: "queue-tokens", DefaultText: "16777216", Usage: "have at most `N` tokens at work"},
		&cli.DurationFlag{Name: "request-timeout", Value: d.RequestTimeout, DefaultText: d.RequestTimeout.String(), Usage: "give a call up after `TIME`"},
		&cli.DurationFlag{Name: "drain-timeout", Value: d.DrainTimeout, DefaultText: d.DrainTimeout.String(), Usage: "finish calls at work for at most `TIME` when told to stop"},
		&cli.StringFlag{Name: "pprof", DefaultText: "off", Usage: "loopback `ADDRESS:PORT` for Go's profiles at /debug/pprof/, such as 127.0.0.1:6060"},
	}
}

func serve(c *cli.Context, s command.Streams) (err error) {
	if err := command.NoArguments(c); err != nil {
		return err
	}
	config, err := command.EngineConfig(c, s.Err)
	if err != nil {
		return err
	}
	config.QueueTokens = c.Int("queue-tokens") // 0 is the engine's own bound
	settings, err := serverConfig(c)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", c.String("listen"))
	if err != nil {
		return fmt.Errorf("%w; --listen takes another address", err)
	}
	defer func() { // Serve has closed it, if it came to that
		if cerr := listener.Close(); !errors.Is(cerr, net.ErrClosed) {
			err = errors.Join(err, cerr)
		}
	}()
	log := config.Logger
	config.OmitRequestEvents = true // the server logs them, with the same figures
	stopPprof, err := startPprof(c.String("pprof"), log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopPprof()) }()
	e, err := engine.Open(c.Context, config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	board, err := dashboard.New(e, dashboard.Options{Version: command.Version, Logger: log})
	if err != nil {
		return err
	}
	defer runBoard(c.Context, board, &err)()
	settings.Engine, settings.Logger, settings.Dashboard = e, log, board
	srv, err := server.New(settings)
	if err != nil {
		return err
	}
	info := e.Info()
	page := pageAddress(listener.Addr().String())
	log.Info().Str("address", "http://"+listener.Addr().String()).Str("dashboard", page+"/dashboard").Str("docs", page+"/docs").
		Str("model", info.Model).Str("device", info.Device).Str("dtype", info.DType).Bool("key", settings.Key != "").Msg("listening")
	if at, perr := netip.ParseAddrPort(listener.Addr().String()); perr == nil && !at.Addr().IsLoopback() && settings.Key == "" {
		log.Warn().Msg("anybody who reaches this address may call: --api-key-file asks for a key")
	}
	if err := srv.Serve(c.Context, listener); err != nil {
		return err
	}
	log.Info().Msg("stopped")
	return nil
}

// pageAddress is where a browser on this machine finds the server.
func pageAddress(listening string) string {
	if at, err := netip.ParseAddrPort(listening); err == nil && at.Addr().IsUnspecified() {
		return fmt.Sprintf("http://localhost:%d", at.Port())
	}
	return "http://" + listening
}

// runBoard has the dashboard sample the engine until the returned function is
// called, which adds what went wrong to err. A signal alone does not end it: calls
// that are finished after one are in its figures too.
func runBoard(ctx context.Context, board *dashboard.Dashboard, err *error) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- board.Run(ctx) }()
	return func() {
		cancel()
		*err = errors.Join(*err, <-done)
	}
}

// serverConfig checks the flags of serveFlags.
func serverConfig(c *cli.Context) (server.Config, error) {
	for _, name := range []string{"max-documents", "max-characters", "max-requests", "queue-tokens"} {
		if c.IsSet(name) && c.Int(name) < 1 {
			return server.Config{}, command.Usagef("--%s %d is not a positive number", name, c.Int(name))
		}
	}
	for _, name := range []string{"request-timeout", "drain-timeout"} {
		if c.Duration(name) < time.Millisecond {
			return server.Config{}, command.Usagef("--%s %v is too short", name, c.Duration(name))
		}
	}
	if c.Int64("max-body") < 1 {
		return server.Config{}, command.Usagef("--max-body %d is not a positive number", c.Int64("max-body"))
	}
	key, err := command.APIKey(c.String("api-key-file"))
	if err != nil {
		return server.Config{}, err
	}
	return server.Config{
		Version: command.Version, Key: key,
		CORSOrigins: c.StringSlice("cors-origin"), AllowedHosts: c.StringSlice("allowed-host"),
		Limits: server.Limits{
			Documents: c.Int("max-documents"), Characters: c.Int("max-characters"), BodyBytes: c.Int64("max-body"),
			Requests: c.Int("max-requests"), RequestTimeout: c.Duration("request-timeout"), DrainTimeout: c.Duration("drain-timeout"),
		},
	}, nil
}
