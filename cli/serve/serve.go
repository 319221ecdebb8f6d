// Package serve implements the command serve.
package serve

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"
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
			"bearer token. --keys takes a file of several keys with names and limits, which\n" +
			"mlxrank key new makes. Requests from pages of other sites are refused unless\n" +
			"--cors-origin allows the site. Without a key, requests under a host name of another\n" +
			"machine are refused unless --allowed-host allows the name.\n\n" +
			"With OTEL_EXPORTER_OTLP_ENDPOINT, OpenTelemetry gets a trace of each request.\n\n" +
			"SIGTERM, SIGINT or SIGHUP shuts the server down: running requests finish, new ones\n" +
			"are refused, and the exit status is 0. A second SIGTERM or SIGINT ends the server at\n" +
			"once. Under nohup, SIGHUP is ignored. With --keys or --tls-cert, SIGHUP reads these\n" +
			"files again and ends nothing, also under nohup and when the terminal closes. A file\n" +
			"that cannot be read changes nothing.\n\n" +
			command.Examples(
				[2]string{"Serve the default model on this machine", "mlxrank serve"},
				[2]string{"Serve to the network, with a key", "mlxrank serve --listen :8437 --api-key-file /etc/mlxrank/key"},
				[2]string{"Make a key for a client, and serve with it over TLS", "mlxrank key new --name search --keys keys.yaml\n  mlxrank serve --listen :8437 --keys keys.yaml --tls-cert chain.pem --tls-key key.pem"},
				[2]string{"Serve to a proxy on this machine by a Unix socket, and to this machine by a port", "mlxrank serve --listen unix:/run/mlxrank/http.sock --listen 127.0.0.1:8437"},
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

const (
	defaultListen = "127.0.0.1:8437"
	maxBatchWait  = 10 * time.Second
)

// serveFlags returns the flags that only serve has. The environment and the config
// file can also set them.
func serveFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringSliceFlag{Name: "listen", Value: cli.NewStringSlice(defaultListen), DefaultText: defaultListen,
			Usage: "listening `ADDRESS:PORT`; :PORT for all addresses, port 0 for any free port, unix:PATH for a Unix socket, systemd for the sockets of a unit; may be repeated"},
		&cli.StringFlag{Name: "keys", DefaultText: "none", Usage: "`FILE` with the names, hashes and limits of keys that mlxrank key makes; SIGHUP reads it again"},
		&cli.StringFlag{Name: "tls-cert", DefaultText: "no TLS", Usage: "`FILE` with the certificate chain for TLS, in PEM; SIGHUP reads it again"},
		&cli.StringFlag{Name: "tls-key", DefaultText: "none", Usage: "`FILE` with the private key of --tls-cert, in PEM"},
		&cli.StringSliceFlag{Name: "cors-origin", DefaultText: "none", Usage: "`ORIGIN` whose pages may send requests, such as https://example.org or https://*.example.org, or * for all; may be repeated"},
		&cli.DurationFlag{Name: "max-batch-wait", DefaultText: "0s", Usage: "max `TIME` that a batch waits for more pairs while the device is free; larger batches, later answers"},
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
	if config.BatchTimeout = c.Duration("max-batch-wait"); config.BatchTimeout < 0 || config.BatchTimeout > maxBatchWait {
		return command.Usagef("%s is %v; expected 0 to %v", command.Source(c, "max-batch-wait"), config.BatchTimeout, maxBatchWait)
	}
	config.OmitRequestEvents = true // the server logs them, with the same figures
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
	log := config.Logger
	files, err := serverFiles(c, &settings)
	if err != nil {
		return err
	}
	defer reloadOnHangup(c.Context, s, log, files)()
	listeners, err := listen(c.StringSlice("listen"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeAll(listeners)) }()
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
	announce(log, listeners, &settings)
	if err := srv.Serve(c.Context, listeners...); err != nil {
		return err
	}
	log.Info().Msg("stopped")
	return nil
}

// announce logs where the server listens.
func announce(log zerolog.Logger, listeners []net.Listener, settings *server.Config) {
	info, keyed := settings.Models.Info(), settings.Key != "" || settings.Keys != nil
	for _, l := range listeners {
		at := address(l, settings.TLS != nil)
		event := log.Info().Str("address", at)
		if page := pageAddress(at); !strings.HasPrefix(at, unixPrefix) {
			event.Str("dashboard", page+"/dashboard").Str("docs", page+"/docs")
		}
		event.Str("model", info.Model).Str("device", string(info.Device)).Str("dtype", string(info.DType)).
			Bool("key", keyed).Bool("calibrated", info.Calibration != nil).Msg("listening")
		if isReachable(l) && !keyed {
			log.Warn().Msg("everyone who can reach this address may send requests; set a key with --api-key-file or --keys")
		}
	}
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
	if c.Bool("admin") && settings.Key == "" && !c.IsSet("keys") {
		return server.Config{}, command.Usagef("%s needs a key; give one with --api-key-file, --keys or %s", command.Source(c, "admin"), command.KeyEnv)
	}
	settings.AnyModel, settings.Admin, settings.CORSOrigins = c.Bool("any-model"), c.Bool("admin"), c.StringSlice("cors-origin")
	return settings, nil
}
