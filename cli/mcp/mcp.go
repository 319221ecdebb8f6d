// Package mcp implements the command mcp.
package mcp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/files"
	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/server"
	"github.com/mlxrank/mlxrank/weights"
)

// Command returns the command mcp.
func Command(s command.Streams) *cli.Command {
	flags := append([]cli.Flag{
		&cli.StringSliceFlag{Name: "root", DefaultText: "none", Usage: "`DIR` whose files clients may name; may be repeated"},
		&cli.StringFlag{Name: "http", DefaultText: "standard input and output", Usage: "`ADDRESS:PORT` for streamable HTTP at /mcp, such as 127.0.0.1:8438; port 0 for any free port"},
		command.CalibrationFlag(),
	}, append(command.ServerCacheFlags(), command.ServerFlags()...)...)
	flags = append(flags, command.EngineFlags(weights.Default)...)
	return &cli.Command{
		Name:      "mcp",
		Usage:     "rank documents for agents, by the Model Context Protocol",
		UsageText: "mlxrank mcp [flags]",
		Description: "Serves one tool, rerank, to a client of the Model Context Protocol. It takes a query,\n" +
			"documents or paths, top_n and deadline_ms. Results have scores as mlxrank rerank prints\n" +
			"them, and the best passage of files and long documents.\n\n" +
			"A path is a file, a folder or a pattern, as in rerank --files, below a --root. Neither\n" +
			".. nor a link leads out of the roots, and links with absolute targets are not followed.\n" +
			"Without --root, the tool takes no paths.\n\n" +
			"The client starts the program and talks to it on standard input and output. The log\n" +
			"goes to standard error. With --http, clients call http://ADDRESS:PORT/mcp, and /health,\n" +
			"/ready and /metrics answer as they do in serve. Keys, hosts and limits work as in\n" +
			"serve. An address that other machines can reach needs a key.\n\n" +
			"A model that is not here yet is downloaded at the start, for which clients may not\n" +
			"wait: run mlxrank model pull first.\n\n" +
			command.Examples(
				[2]string{"Rank documents and the files of a folder for a client on this machine", "mlxrank mcp --root ~/notes"},
				[2]string{"Keep scores on disk, also for serve --cache and rerank --cache", "mlxrank mcp --cache ~/.cache/mlxrank-scores"},
				[2]string{"Serve to the network, with a key", "mlxrank mcp --http :8438 --api-key-file /etc/mlxrank/key --root /srv/docs"},
			),
		Flags:  flags,
		Action: func(c *cli.Context) error { return run(c, s) },
	}
}

func run(c *cli.Context, s command.Streams) (err error) {
	if err := command.NoArguments(c); err != nil {
		return err
	}
	config, err := command.EngineConfig(c, s.Err)
	if err != nil {
		return err
	}
	if err := command.SetCalibration(c, &config); err != nil {
		return err
	}
	config.QueueTokens = c.Int("queue-tokens") // 0 means the engine's default
	settings, err := command.ServerConfig(c)
	if err != nil {
		return err
	}
	closeCache, err := command.SetServerCache(c, &config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeCache()) }()
	roots, err := files.OpenRoots(c.StringSlice("root"))
	if err != nil {
		return fmt.Errorf("--root: %w; give a folder that exists", err)
	}
	defer func() { err = errors.Join(err, roots.Close()) }()
	var listener net.Listener
	if c.IsSet("http") {
		if listener, err = listen(c.String("http"), settings.Key != ""); err != nil {
			return err
		}
		defer func() { // Serve may have closed the listener
			if cerr := listener.Close(); !errors.Is(cerr, net.ErrClosed) {
				err = errors.Join(err, cerr)
			}
		}()
	}
	e, err := engine.Open(c.Context, config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, command.CloseEngine(c.Context, e, config.Logger)) }()
	protocol := newServer(newTool(e, roots, settings.Limits))
	if listener == nil {
		return serveStreams(c.Context, protocol, s)
	}
	settings.Engine, settings.Logger = e, config.Logger
	return serveHTTP(c.Context, protocol, settings, listener)
}

// listen refuses an address that other machines can reach unless there is a key: a
// client may read the files below the roots.
func listen(address string, key bool) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--http: %w; choose another address", err)
	}
	at, err := netip.ParseAddrPort(listener.Addr().String())
	if err == nil && !at.Addr().IsLoopback() && !key {
		err = command.Usagef("--http %s: other machines can reach this address; set a key with --api-key-file, or listen at 127.0.0.1", address)
	}
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return listener, nil
}

// newServer returns a server of the protocol that has only the tool.
func newServer(t *tool) *sdk.Server {
	s := sdk.NewServer(&sdk.Implementation{Name: "mlxrank", Title: "mlxrank", Version: command.Version},
		&sdk.ServerOptions{Capabilities: &sdk.ServerCapabilities{Tools: &sdk.ToolCapabilities{}}})
	s.AddTool(t.description(), t.handle)
	return s
}

// serveStreams answers the client at the other end of the standard streams until it
// closes its end, or ctx ends.
func serveStreams(ctx context.Context, protocol *sdk.Server, s command.Streams) error {
	err := protocol.Run(ctx, &sdk.IOTransport{Reader: io.NopCloser(s.In), Writer: writeCloser{s.Out}})
	if ctx.Err() != nil {
		return nil // a signal is how some clients end a server
	}
	return err
}

// A writeCloser leaves the closing of standard output to the end of the process.
type writeCloser struct{ io.Writer }

func (writeCloser) Close() error { return nil }

// newHandler answers the messages of the protocol that clients send over HTTP.
func newHandler(protocol *sdk.Server) http.Handler {
	handler := sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return protocol }, &sdk.StreamableHTTPOptions{
		Stateless: true, JSONResponse: true,
		DisableLocalhostProtection: true, MaxRequestBodyBytes: -1, // the server checks hosts and bodies
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler.ServeHTTP(w, r.WithContext(withCaller(r.Context())))
	})
}

// serveHTTP answers requests until ctx ends. The protocol has no sessions: one tool that
// only answers needs none, and clients that never come back would leave them behind.
func serveHTTP(ctx context.Context, protocol *sdk.Server, settings server.Config, listener net.Listener) error {
	settings.MCP = newHandler(protocol)
	srv, err := server.New(settings)
	if err != nil {
		return err
	}
	settings.Logger.Info().Str("address", "http://"+listener.Addr().String()+"/mcp").Bool("key", settings.Key != "").Msg("listening")
	if err := srv.Serve(ctx, listener); err != nil {
		return err
	}
	settings.Logger.Info().Msg("stopped")
	return nil
}
