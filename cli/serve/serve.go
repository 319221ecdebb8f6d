// Package serve implements the command serve.
package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/internal/otlp"
	"github.com/mlxrank/mlxrank/server"
	"github.com/mlxrank/mlxrank/server/dashboard"
)

// Command returns the command serve.
func Command(s command.Streams) *cli.Command {
	flags := slices.Concat(serveFlags(), modelFlags(), engineFlags())
	command.SetLogLevel(flags, "info")
	return &cli.Command{
		Name:      "serve",
		Usage:     "answer rerank requests over HTTP",
		UsageText: "mlxrank serve [flags]",
		Description: "Serves these routes:\n" +
			"  POST /rerank, /predict  the API of text-embeddings-inference\n" +
			"  POST /v1/rerank         the APIs of Jina and Voyage, and version 1 of Cohere's\n" +
			"  POST /v2/rerank         version 2 of Cohere's API\n" +
			"  POST /rerank, /score    the API of vLLM\n" +
			"  POST /                  the API of Hugging Face's inference endpoints\n" +
			"  POST /voyage/v1/rerank, /infinity/rerank, /weaviate/rerank\n" +
			"  GET  /info, /v1/models, /health, /ready, /ping, /metrics (Prometheus),\n" +
			"       /openapi.json, /docs, and a live /dashboard, to which / redirects a browser\n" +
			"Scores are 0 to 1 with every --activation, unless a request asks for raw scores.\n\n" +
			"The model of a request is the one that it names, or else the first --model. A model is\n" +
			"named as --model does or by an --alias. Other names are answered with status 404 and\n" +
			"the list, or by the first model with --any-model.\n\n" +
			"Without a key, everyone who can reach the address may send requests. The key is the\n" +
			"content of --api-key-file or the value of " + command.KeyEnv + "; requests send it as a\n" +
			"bearer token. Requests from pages of other sites are refused unless --cors-origin\n" +
			"allows the site. Without a key, requests under a host name of another machine are\n" +
			"refused unless --allowed-host allows the name.\n\n" +
			"With OTEL_EXPORTER_OTLP_ENDPOINT, OpenTelemetry gets a trace of each request.\n\n" +
			"SIGTERM, SIGINT or SIGHUP shuts the server down: running requests finish, new ones\n" +
			"are refused, and the exit status is 0. A second SIGTERM or SIGINT ends the server at\n" +
			"once. Under nohup, SIGHUP is ignored.\n\n" +
			command.Examples(
				[2]string{"Serve the default model on this machine", "mlxrank serve"},
				[2]string{"Serve to the network, with a key", "mlxrank serve --listen :8437 --api-key-file /etc/mlxrank/key"},
				[2]string{"Serve two models, one of them under another name; load each when a request needs it", "mlxrank serve --model cross-encoder/ms-marco-MiniLM-L6-v2 --model BAAI/bge-reranker-base \\\n    --alias rerank-v3.5=BAAI/bge-reranker-base --load lazy --unload-after 10m --max-model-memory 2000"},
				[2]string{"Allow requests from pages of a site, and under a host name", "mlxrank serve --cors-origin 'https://*.example.org' --allowed-host rerank.example.org"},
				[2]string{"Answer probabilities of relevance, by a file of mlxrank eval", "mlxrank serve --calibration calibration.json"},
				[2]string{"Keep scores on disk, also for later servers and for rerank --cache", "mlxrank serve --cache ~/.cache/mlxrank-scores"},
				[2]string{"Send a request", `curl -s http://127.0.0.1:8437/rerank -H 'Content-Type: application/json' \` + "\n    " +
					`-d '{"query": "resize photos", "texts": ["An image editor.", "A mail reader."]}'`},
			),
		Flags:  flags,
		Action: func(c *cli.Context) error { return serve(c, s) },
	}
}

// serveFlags returns the flags that only serve has. The environment and the config
// file can also set them.
func serveFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "listen", Value: "127.0.0.1:8437", DefaultText: "127.0.0.1:8437", Usage: "listening `ADDRESS:PORT`; :PORT for all addresses, port 0 for any free port"},
		&cli.StringSliceFlag{Name: "cors-origin", DefaultText: "none", Usage: "`ORIGIN` whose pages may send requests, such as https://example.org or https://*.example.org, or * for all; may be repeated"},
		&cli.StringFlag{Name: "access-log", DefaultText: "none", Usage: "`FILE` for a line of JSON about each request, or - for the standard output"},
		&cli.StringFlag{Name: "pprof", DefaultText: "off", Usage: "loopback `ADDRESS:PORT` for Go's profiles at /debug/pprof/, such as 127.0.0.1:6060"},
	}, append(command.ServerCacheFlags(), command.ServerFlags()...)...)
}

func serve(c *cli.Context, s command.Streams) (err error) {
	if err := command.NoArguments(c); err != nil {
		return err
	}
	config, err := command.EngineConfig(c, s.Err)
	if err != nil {
		return err
	}
	config.QueueTokens = c.Int("queue-tokens") // 0 means the engine's default
	config.OmitRequestEvents = true            // the server logs them, with the same figures
	settings, err := serverConfig(c)
	if err != nil {
		return err
	}
	closeCache, err := command.SetServerCache(c, &config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeCache()) }()
	chosen, err := chooseModels(c, config)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", c.String("listen"))
	if err != nil {
		return fmt.Errorf("%w; choose another address with --listen", err)
	}
	defer func() { // Serve may have closed the listener
		if cerr := listener.Close(); !errors.Is(cerr, net.ErrClosed) {
			err = errors.Join(err, cerr)
		}
	}()
	log := config.Logger
	stopPprof, err := startPprof(c.String("pprof"), command.Source(c, "pprof"), log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopPprof()) }()
	access, stopAccess, err := openAccessLog(c.String("access-log"), s, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopAccess()) }()
	traces := otlp.Start("mlxrank", command.Version, log)
	defer traces.Close()
	models, err := server.NewModels(c.Context, chosen)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, models.Close()) }()
	board, err := dashboard.New(models, dashboard.Options{Version: command.Version, Logger: log, Models: func() any { return models.List() }, Deadlines: models.Deadlines})
	if err != nil {
		return err
	}
	defer runBoard(c.Context, board, &err)()
	settings.Models, settings.Logger, settings.Dashboard, settings.AccessLog = models, log, board, access
	if traces != nil {
		settings.Traces = traces
	}
	srv, err := server.New(settings)
	if err != nil {
		return err
	}
	info := models.Info()
	page := pageAddress(listener.Addr().String())
	log.Info().Str("address", "http://"+listener.Addr().String()).Str("dashboard", page+"/dashboard").Str("docs", page+"/docs").
		Str("model", info.Model).Str("device", string(info.Device)).Str("dtype", string(info.DType)).Bool("key", settings.Key != "").Bool("calibrated", info.Calibration != nil).Msg("listening")
	if at, perr := netip.ParseAddrPort(listener.Addr().String()); perr == nil && !at.Addr().IsLoopback() && settings.Key == "" {
		log.Warn().Msg("everyone who can reach this address may send requests; set a key with --api-key-file")
	}
	if err := srv.Serve(c.Context, listener); err != nil {
		return err
	}
	log.Info().Msg("stopped")
	return nil
}

// pageAddress returns the URL that a browser on this machine can open.
func pageAddress(listening string) string {
	if at, err := netip.ParseAddrPort(listening); err == nil && at.Addr().IsUnspecified() {
		return fmt.Sprintf("http://localhost:%d", at.Port())
	}
	return "http://" + listening
}

// runBoard makes the dashboard sample the engine until stop is called. stop joins the
// dashboard's error to err. The dashboard ignores the end of ctx, so that its figures
// include the requests that finish after a signal.
func runBoard(ctx context.Context, board *dashboard.Dashboard, err *error) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- board.Run(ctx) }()
	return func() {
		cancel()
		*err = errors.Join(*err, <-done)
	}
}

// serverConfig reads and checks the flags of the server.
func serverConfig(c *cli.Context) (server.Config, error) {
	settings, err := command.ServerConfig(c)
	if err != nil {
		return server.Config{}, err
	}
	if c.Bool("admin") && settings.Key == "" {
		return server.Config{}, command.Usagef("%s needs a key; give one with --api-key-file or %s", command.Source(c, "admin"), command.KeyEnv)
	}
	settings.AnyModel, settings.Admin, settings.CORSOrigins = c.Bool("any-model"), c.Bool("admin"), c.StringSlice("cors-origin")
	return settings, nil
}
