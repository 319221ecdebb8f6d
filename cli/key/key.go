// Package key implements the command key.
package key

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/keyfile"
	"github.com/mlxrank/mlxrank/server"
)

// Command returns the command key with its subcommand.
func Command(s command.Streams) *cli.Command {
	return &cli.Command{
		Name:      "key",
		Usage:     "make keys for mlxrank serve --keys",
		UsageText: "mlxrank key COMMAND [flags]",
		Description: "The file of serve --keys has a line for each key: its name, its SHA-256 and its\n" +
			"limits. It does not have the keys themselves.\n\n" + examples(),
		Subcommands: []*cli.Command{newCommand(s)},
		Action:      command.RequireSubcommand,
	}
}

func examples() string {
	return command.Examples(
		[2]string{"Make a key, add it to a file, and let a running server read the file again", "mlxrank key new --name search --keys /etc/mlxrank/keys.yaml\n  kill -HUP PID"},
		[2]string{"Make a key for 4 requests at a time and 60,000 pairs a minute, and print its line", "mlxrank key new --name crawler --max-requests 4 --pairs-per-minute 60000"},
	)
}

func newCommand(s command.Streams) *cli.Command {
	return &cli.Command{
		Name:      "new",
		Usage:     "make a random key",
		UsageText: "mlxrank key new --name NAME [flags]",
		Description: "Prints the key, which is 256 random bits and is kept nowhere. The line for the file\n" +
			"follows, or is added to the file of --keys. The file is made if there is none, and only\n" +
			"its owner can read it. To revoke a key, remove its line. A running server reads the file\n" +
			"again at SIGHUP.\n\n" + examples(),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "name", Usage: "`NAME` of the key, for logs and metrics (required)"},
			&cli.StringFlag{Name: "keys", DefaultText: "none", Usage: "`FILE` of keys to add the line to"},
			&cli.IntFlag{Name: "max-requests", DefaultText: "unlimited", Usage: "max concurrent scoring requests `N` with the key"},
			&cli.IntFlag{Name: "pairs-per-minute", DefaultText: "unlimited", Usage: "max pairs `N` a minute with the key"},
			&cli.BoolFlag{Name: "admin", DisableDefaultText: true, Usage: "let the key open /admin/models"},
		},
		Action: func(c *cli.Context) error { return makeKey(c, s) },
	}
}

func makeKey(c *cli.Context, s command.Streams) error {
	if err := command.Require(c, "name"); err != nil {
		return err
	}
	for _, name := range []string{"max-requests", "pairs-per-minute"} {
		if c.IsSet(name) && c.Int(name) < 1 {
			return command.Usagef("--%s %d is too small; expected at least 1, or no --%[1]s for no limit", name, c.Int(name))
		}
	}
	if c.IsSet("keys") && c.String("keys") == "" {
		return command.Usagef("--keys is empty; expected the name of a file")
	}
	text := newText()
	made := server.ClientKey{
		Name: c.String("name"), SHA256: sha256.Sum256([]byte(text)), Admin: c.Bool("admin"),
		MaxRequests: c.Int("max-requests"), PairsPerMinute: c.Int("pairs-per-minute"),
	}
	if _, err := server.NewKeys([]server.ClientKey{made}); err != nil {
		return command.Usagef("--name: %v", err)
	}
	path := c.String("keys")
	if path == "" {
		_, err := fmt.Fprintf(s.Out, "%s\n%s", text, keyfile.Line(made))
		return err
	}
	if err := keyfile.Append(path, made); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(s.Out, text); err != nil {
		return fmt.Errorf("%w; the key is lost: remove the line of %s from %s", err, made.Name, path)
	}
	_, err := fmt.Fprintf(s.Err, "added key %s to %s; a running server reads it at SIGHUP\n", made.Name, path)
	return err
}

// newText returns a key. Its beginning lets scanners find keys in files where none
// belongs.
func newText() string {
	bits := make([]byte, 32)
	rand.Read(bits) // it never fails
	return "mlxrank-" + base64.RawURLEncoding.EncodeToString(bits)
}
