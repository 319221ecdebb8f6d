package cli

import (
	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/weights"
)

// debugCommand returns the hidden command debug, for developers of mlxrank.
func debugCommand(s command.Streams) *cli.Command {
	flags := []cli.Flag{
		&cli.StringFlag{Name: "query", Usage: "query `TEXT` of the pair (required)"},
		&cli.StringFlag{Name: "document", Usage: "document `TEXT` of the pair (required)"},
		&cli.StringFlag{Name: "output", Usage: "output `FILE`, whose name ends in .safetensors (required)"},
	}
	return &cli.Command{
		Name:      "debug",
		Usage:     "tools for developers of mlxrank",
		UsageText: "mlxrank debug COMMAND [flags]",
		Hidden:    true,
		Action:    command.RequireSubcommand,
		Subcommands: []*cli.Command{{
			Name:      "activations",
			Usage:     "write a pair's activations, layer by layer",
			UsageText: "mlxrank debug activations --query TEXT --document TEXT --output FILE [flags]",
			Description: "Writes float32 tensors under the names of PyTorch's modules, without \"bert.\":\n" +
				"embeddings; encoder.layer.N.attention.self, encoder.layer.N.attention and\n" +
				"encoder.layer.N for each layer; pooler; classifier. The last layer computes only\n" +
				"[CLS], so its tensors have one row. MLXRANK_UNFUSED_GRAPH=1 selects the unfused\n" +
				"graph.\n\n" +
				command.Examples([2]string{"Write the activations of the builtin model", `mlxrank debug activations --model builtin --query "resize photos" --document "An image editor." --output pair.safetensors`}),
			Flags: append(flags, command.EngineFlags(weights.Default)...),
			Action: func(c *cli.Context) error {
				config, err := command.EngineConfig(c, s.Err)
				if err != nil {
					return err
				}
				if err := command.Require(c, "query", "document", "output"); err != nil {
					return err
				}
				pair := engine.Pair{Query: c.String("query"), Document: c.String("document")}
				return engine.WriteActivations(c.Context, config, pair, c.String("output"))
			},
		}},
	}
}
