package fleet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/fleet"
)

func startCommand(s command.Streams) *cli.Command {
	flags := []cli.Flag{
		&cli.StringFlag{Name: "listen", Value: fleet.DefaultAddress, DefaultText: fleet.DefaultAddress, Usage: "listening `ADDRESS:PORT`; 0.0.0.0:4222 for other machines, port 0 for any free port"},
		&cli.StringFlag{Name: "dir", DefaultText: "mlxrank/fleet in the user's cache folder", Usage: "`DIR` for jobs, their data and the token"},
		&cli.StringFlag{Name: "max-store", Value: "50GB", DefaultText: "50GB", Usage: "max `SIZE` of the data of all jobs, at least 64MiB"},
		&cli.StringFlag{Name: "tls-cert", DefaultText: "no TLS", Usage: "`FILE` with the certificate chain for TLS, in PEM"},
		&cli.StringFlag{Name: "tls-key", DefaultText: "none", Usage: "`FILE` with the private key of --tls-cert, in PEM"},
		&cli.StringFlag{Name: "client-ca", DefaultText: "clients need no certificate", Usage: "`FILE` of certificates, in PEM, that sign the clients'"},
	}
	return &cli.Command{
		Name:      "start",
		Usage:     "run the server that holds jobs",
		UsageText: "mlxrank fleet start [flags]",
		Description: "Runs NATS with JetStream in the foreground. Every write is on the disk before it is\n" +
			"acknowledged. Clients must send the token, which is made at the first start and kept in\n" +
			"the folder. Standard output has the command that workers run. Jobs survive a restart.\n\n" +
			command.Examples(
				[2]string{"Try a fleet on this machine", "mlxrank fleet start"},
				[2]string{"Let other machines join", "mlxrank fleet start --listen 0.0.0.0:4222"},
				[2]string{"Keep the jobs on a large disk", "mlxrank fleet start --dir /mnt/fleet --max-store 500GB"},
				[2]string{"Encrypt the connections", "mlxrank fleet start --listen 0.0.0.0:4222 --tls-cert server.pem --tls-key server-key.pem"},
			),
		Flags:  append(flags, logFlags()...),
		Action: func(c *cli.Context) error { return start(c, s) },
	}
}

func start(c *cli.Context, s command.Streams) (err error) {
	if err := command.NoArguments(c); err != nil {
		return err
	}
	log, err := newLogger(c, s)
	if err != nil {
		return err
	}
	size, err := humanize.ParseBytes(c.String("max-store"))
	if err != nil || size > 1<<60 {
		return command.Usagef("--max-store %q is not a size; expected a number with a unit, such as 50GB", c.String("max-store"))
	}
	if size < fleet.MinStore {
		return command.Usagef("--max-store %s is too small; expected at least 64MiB", c.String("max-store"))
	}
	config := fleet.ServerConfig{Dir: c.String("dir"), Listen: c.String("listen"), MaxStore: int64(size), Logger: log}
	if config.Dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return fmt.Errorf("no folder for the jobs: %w; give one with --dir", err)
		}
		config.Dir = filepath.Join(cache, "mlxrank", "fleet")
	}
	if config.TLS, err = serverTLS(c); err != nil {
		return err
	}
	var server *fleet.Server
	if earlier := os.Getenv(addressVariable); earlier != "" {
		config.Listen = earlier
		server, err = goOn(c.Context, config)
	} else {
		server, err = startNew(s, config)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	select {
	case <-c.Context.Done():
		return nil
	case <-server.Ended():
		log.Warn().Msg("the disk has room again; the server starts again")
		return runAgain(server.Address())
	}
}

// startNew starts a server and announces it.
func startNew(s command.Streams, config fleet.ServerConfig) (*fleet.Server, error) {
	server, err := fleet.StartServer(config)
	if err != nil {
		return nil, err
	}
	if err := announce(s, server, config); err != nil {
		return nil, errors.Join(err, server.Close())
	}
	return server, nil
}

// goOn starts the server that an earlier process announced. It tries until the server
// starts or ctx ends: clients wait for it.
func goOn(ctx context.Context, config fleet.ServerConfig) (*fleet.Server, error) {
	for {
		server, err := fleet.StartServer(config)
		if err == nil {
			config.Logger.Warn().Str("address", server.Address()).Msg("the server goes on")
			return server, nil
		}
		config.Logger.Error().Err(err).Msg("the server cannot start again; trying until it can")
		select {
		case <-time.After(2 * time.Second):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// addressVariable holds the address of the server that this process goes on with. It has
// announced the address already.
const addressVariable = "MLXRANK_FLEET_ADDRESS"

// runAgain replaces this process by a new one of the same program, whose server has the
// address of this one's.
func runAgain(address string) error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("start the server again: %w", err)
	}
	if runtime.GOOS == "linux" {
		program = "/proc/self/exe" // this program, even if its file was removed or replaced
	}
	if err := os.Setenv(addressVariable, address); err != nil {
		return err
	}
	err = syscall.Exec(program, os.Args, os.Environ())
	return fmt.Errorf("start the server again: %s: %w; its jobs go on when you start it", program, err)
}

// announce prints the commands that join the server.
func announce(s command.Streams, server *fleet.Server, config fleet.ServerConfig) error {
	urls := server.URLs()
	notes := "the jobs are in " + config.Dir + "\n"
	if len(urls) == 0 {
		urls = []string{server.URL()}
		notes += "only this machine can join; for others, give --listen 0.0.0.0:4222\n"
	} else if config.TLS == nil {
		notes += "connections are not encrypted; outside a trusted network, give --tls-cert and --tls-key\n"
	}
	if len(urls) > 1 {
		notes += "this machine has several addresses; use one that the worker reaches\n"
	}
	if _, err := fmt.Fprint(s.Err, notes); err != nil {
		return err
	}
	var lines []string
	for _, url := range urls {
		lines = append(lines, "mlxrank fleet work --join "+url)
	}
	return command.PrintLines(s.Out, lines)
}

// serverTLS returns the TLS configuration of the flags, nil without a certificate.
func serverTLS(c *cli.Context) (*tls.Config, error) {
	if c.IsSet("tls-cert") != c.IsSet("tls-key") {
		return nil, command.Usagef("--tls-cert and --tls-key belong together; give both or none")
	}
	if !c.IsSet("tls-cert") {
		if c.IsSet("client-ca") {
			return nil, command.Usagef("--client-ca needs --tls-cert and --tls-key")
		}
		return nil, nil
	}
	certificate, err := tls.LoadX509KeyPair(c.String("tls-cert"), c.String("tls-key"))
	if err != nil {
		return nil, fmt.Errorf("read --tls-cert and --tls-key: %w", err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}}
	if path := c.String("client-ca"); path != "" {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read --client-ca: %w", err)
		}
		config.ClientCAs, config.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
		if !config.ClientCAs.AppendCertsFromPEM(data) {
			return nil, fmt.Errorf("read --client-ca: %s has no certificate in PEM", path)
		}
	}
	return config, nil
}
