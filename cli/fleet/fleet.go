// Package fleet implements the command fleet, which scores a file on several machines.
package fleet

import (
	"cmp"
	"context"
	"os"
	"strings"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/fleet"
	"github.com/mlxrank/mlxrank/weights"
)

// Command returns the command fleet with its subcommands.
func Command(s command.Streams) *cli.Command {
	return &cli.Command{
		Name:      "fleet",
		Usage:     "score a file on several machines",
		UsageText: "mlxrank fleet COMMAND [flags]",
		Description: "One machine runs the server, which holds the jobs. Any machine that reaches it can be\n" +
			"a worker. The output is byte for byte the one of mlxrank score on one machine. Parts of\n" +
			"a worker that dies go to others. The server is NATS with JetStream; an existing NATS\n" +
			"cluster serves as well.\n\n" + examples(),
		Subcommands: []*cli.Command{
			startCommand(s), workCommand(s), submitCommand(s), attachCommand(s), statusCommand(s), listCommand(s), retryCommand(s), cancelCommand(s),
		},
		Action: command.RequireSubcommand,
	}
}

func examples() string {
	return command.Examples(
		[2]string{"Start the server for other machines; it prints the line that workers run", "mlxrank fleet start --listen 0.0.0.0:4222"},
		[2]string{"Be a worker", "mlxrank fleet work --join nats://TOKEN@192.0.2.7:4222"},
		[2]string{"Score a file", "mlxrank fleet submit --join nats://TOKEN@192.0.2.7:4222 --input pairs.jsonl.zst --output scores.jsonl"},
		[2]string{"Go on waiting for a job after a restart", "mlxrank fleet attach 4f1c09ab77 --join nats://TOKEN@192.0.2.7:4222"},
		[2]string{"See what happens", "mlxrank fleet status --join nats://TOKEN@192.0.2.7:4222"},
	)
}

// joinFlags returns the flags of every command that connects to a server.
func joinFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "join", Usage: "`URL` of the server, nats://TOKEN@HOST:PORT or tls://...; " + command.JoinEnv + " may hold it instead"},
		&cli.StringFlag{Name: "creds", DefaultText: "none", Usage: "`FILE` with the credentials of a NATS user"},
		&cli.StringFlag{Name: "nkey", DefaultText: "none", Usage: "`FILE` with the seed of a NATS user's nkey"},
		&cli.StringFlag{Name: "ca", DefaultText: "the system's", Usage: "`FILE` of certificates, in PEM, that sign the server's"},
		&cli.StringFlag{Name: "client-cert", DefaultText: "none", Usage: "`FILE` with this client's certificate, in PEM"},
		&cli.StringFlag{Name: "client-key", DefaultText: "none", Usage: "`FILE` with the private key of --client-cert, in PEM"},
	}
}

// connect connects to the server that the flags of joinFlags name.
func connect(ctx context.Context, c *cli.Context, log zerolog.Logger) (*fleet.Fleet, error) {
	url := cmp.Or(c.String("join"), os.Getenv(command.JoinEnv))
	if url == "" {
		return nil, command.Usagef("--join is missing; mlxrank fleet start prints the address (see %s --help)", c.Command.HelpName)
	}
	if !strings.Contains(url, "://") {
		return nil, command.Usagef("--join is not an address; expected nats://TOKEN@HOST:PORT or tls://TOKEN@HOST:PORT")
	}
	for _, name := range []string{"creds", "nkey", "ca", "client-cert", "client-key"} {
		if c.IsSet(name) && c.String(name) == "" {
			return nil, command.Usagef("--%s is empty", name)
		}
	}
	if c.IsSet("client-cert") != c.IsSet("client-key") {
		return nil, command.Usagef("--client-cert and --client-key belong together; give both or none")
	}
	return fleet.Connect(ctx, fleet.ConnectConfig{
		URL: url, Name: "mlxrank " + c.Command.Name + " on " + hostName(),
		Creds: c.String("creds"), NKey: c.String("nkey"),
		CA: c.String("ca"), Cert: c.String("client-cert"), CertKey: c.String("client-key"), Logger: log,
	})
}

func hostName() string {
	name, err := os.Hostname()
	if err != nil {
		return "an unnamed host"
	}
	return name
}

// logFlags returns the flags of the log.
func logFlags() []cli.Flag {
	return command.SomeEngineFlags(weights.Default, "log-level", "log-format")
}

// newLogger returns the logger that --log-level and --log-format select.
func newLogger(c *cli.Context, s command.Streams) (zerolog.Logger, error) {
	return command.NewLogger(c.String("log-level"), c.String("log-format"), s.Err)
}
