package command

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/server"
)

// ServerFlags returns the flags of the commands that answer requests: who may send
// them, and the limits.
func ServerFlags() []cli.Flag {
	d := server.DefaultLimits()
	return []cli.Flag{
		&cli.StringFlag{Name: "api-key-file", DefaultText: "none", Usage: "`FILE` with the key that requests must send; " + KeyEnv + " may hold it instead"},
		&cli.StringSliceFlag{Name: "allowed-host", DefaultText: "addresses and this machine's names", Usage: "`HOST` name under which requests are accepted, or * for all; may be repeated"},
		&cli.IntFlag{Name: "max-documents", Value: d.Documents, DefaultText: fmt.Sprint(d.Documents), Usage: "max documents `N` per request"},
		&cli.IntFlag{Name: "max-characters", Value: d.Characters, DefaultText: fmt.Sprint(d.Characters), Usage: "max characters `N` per request"},
		&cli.Int64Flag{Name: "max-body", Value: d.BodyBytes, DefaultText: fmt.Sprint(d.BodyBytes), Usage: "max body `N` per request, in bytes"},
		&cli.IntFlag{Name: "max-requests", Value: d.Requests, DefaultText: fmt.Sprint(d.Requests), Usage: "max concurrent requests `N`"},
		&cli.IntFlag{Name: "queue-tokens", DefaultText: "16777216", Usage: "max tokens `N` of all concurrent requests"},
		&cli.DurationFlag{Name: "request-timeout", Value: d.RequestTimeout, DefaultText: d.RequestTimeout.String(), Usage: "request timeout `TIME`"},
		&cli.DurationFlag{Name: "drain-delay", DefaultText: "0s", Usage: "`TIME` at shutdown for which requests are still accepted while /ready answers 503, until load balancers have noticed"},
		&cli.DurationFlag{Name: "drain-timeout", Value: d.DrainTimeout, DefaultText: d.DrainTimeout.String(), Usage: "max `TIME` for running requests to finish at shutdown"},
	}
}

// ServerConfig reads and checks the flags of ServerFlags.
func ServerConfig(c *cli.Context) (server.Config, error) {
	for _, name := range []string{"max-documents", "max-characters", "max-requests", "queue-tokens"} {
		if c.IsSet(name) && c.Int(name) < 1 {
			return server.Config{}, Usagef("%s %d is too small; expected at least 1", Source(c, name), c.Int(name))
		}
	}
	for _, name := range []string{"request-timeout", "drain-timeout"} {
		if c.Duration(name) < time.Millisecond {
			return server.Config{}, Usagef("%s %v is too short; expected at least 1ms", Source(c, name), c.Duration(name))
		}
	}
	if c.Duration("drain-delay") < 0 {
		return server.Config{}, Usagef("%s %v is negative; expected 0s or more", Source(c, "drain-delay"), c.Duration("drain-delay"))
	}
	if c.Int64("max-body") < 1 {
		return server.Config{}, Usagef("%s %d is too small; expected at least 1", Source(c, "max-body"), c.Int64("max-body"))
	}
	key, err := APIKey(c.String("api-key-file"))
	if err != nil {
		return server.Config{}, err
	}
	return server.Config{
		Version: Version, Key: key, AllowedHosts: c.StringSlice("allowed-host"),
		Limits: server.Limits{
			Documents: c.Int("max-documents"), Characters: c.Int("max-characters"), BodyBytes: c.Int64("max-body"),
			Requests: c.Int("max-requests"), RequestTimeout: c.Duration("request-timeout"),
			DrainDelay: c.Duration("drain-delay"), DrainTimeout: c.Duration("drain-timeout"),
		},
	}, nil
}
