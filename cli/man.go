package cli

import (
	"fmt"
	"strings"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/command"
)

func manCommand(s command.Streams) *cli.Command {
	return &cli.Command{
		Name:        "man",
		Usage:       "print the manual page",
		UsageText:   "mlxrank man",
		Description: command.Examples([2]string{"Read the manual page", "mlxrank man | man -l -"}),
		Action: func(c *cli.Context) error {
			if err := command.NoArguments(c); err != nil {
				return err
			}
			_, err := s.Out.Write(md2man.Render([]byte(manual(c.App))))
			return err
		},
	}
}

// manual returns the manual page in md2man's Markdown. urfave/cli's generator
// omits the descriptions and examples of commands.
func manual(app *cli.App) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%% mlxrank 1\n\n# NAME\n\nmlxrank - %s\n\n", app.Usage)
	fmt.Fprintf(&b, "# SYNOPSIS\n\n%s\n# DESCRIPTION\n\n%s\n\n# COMMANDS\n\n", block(app.UsageText), app.Description)
	for _, c := range app.Commands {
		writeManual(&b, c)
	}
	b.WriteString("# EXIT STATUS\n\n" +
		"0 on success, 2 for a wrong command line, 130 when interrupted, and 1 for any other failure.\n")
	return b.String()
}

// writeManual appends a command and its subcommands.
func writeManual(b *strings.Builder, c *cli.Command) {
	if c.Hidden || c.Name == "help" {
		return
	}
	fmt.Fprintf(b, "## %s\n\n%s\n\n%s\n", strings.TrimPrefix(c.HelpName, "mlxrank "), sentence(c.Usage), block(c.UsageText))
	if c.Description != "" {
		b.WriteString(block(c.Description) + "\n")
	}
	for _, flag := range c.VisibleFlags() {
		name, usage, _ := strings.Cut(flag.String(), "\t")
		fmt.Fprintf(b, "**%s**\n: %s\n\n", strings.TrimSpace(name), usage)
	}
	for _, sub := range c.Subcommands {
		writeManual(b, sub)
	}
}

// block formats text as a Markdown code block, which keeps its lines.
func block(text string) string {
	return "    " + strings.ReplaceAll(text, "\n", "\n    ") + "\n"
}

func sentence(text string) string { return strings.ToUpper(text[:1]) + text[1:] + "." }
