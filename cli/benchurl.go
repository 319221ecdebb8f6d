package cli

import (
	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/bench"
	"github.com/mlxrank/mlxrank/cli/internal/command"
)

var apiChoice = command.Choice{Name: "api", Usage: "call the server of --url as `API` has it", Def: bench.APIs[0], Values: bench.APIs}

// urlFlags are those that measure a server.
func urlFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "url", DefaultText: "none", Usage: "measure the server at `URL`, in the place of an engine"},
		apiChoice.Flag(),
		&cli.StringFlag{Name: "api-key-file", DefaultText: "none", Usage: "send the key in `FILE` to the server of --url; " + command.KeyEnv + " holds one too"},
	}
}

// serverOf is the server to measure, nil if it is an engine.
func serverOf(c *cli.Context) (*bench.Server, error) {
	if err := apiChoice.Check(c, "--api"); err != nil {
		return nil, err
	}
	if !c.IsSet("url") {
		if c.IsSet("api") { // a key's file may be in the config file, for serve
			return nil, command.Usagef("--api is how to call a server, but there is no --url")
		}
		return nil, nil
	}
	key, err := command.APIKey(c.String("api-key-file"))
	if err != nil {
		return nil, err
	}
	server, err := bench.NewServer(c.String("url"), c.String("api"), key)
	if err != nil {
		return nil, command.Usagef("--url: %v", err)
	}
	return server, nil
}
