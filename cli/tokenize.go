package cli

import (
	"bufio"
	"encoding/json"
	"errors"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/input"
	"github.com/mlxrank/mlxrank/cli/records"
	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/weights"
)

func tokenizeCommand(s command.Streams) *cli.Command {
	return &cli.Command{
		Name:      "tokenize",
		Usage:     "print the token ids of the pairs in a file",
		UsageText: "mlxrank tokenize --input FILE [flags]",
		Description: input.FormatsHelp + "Prints one line {\"input_ids\": [...], \"token_type_ids\": [...], \"truncated\": ...} for each\n" +
			"pair: the ids that the model gets, with special tokens, cut to the maximum length.\n" +
			"--tokens adds \"tokens\": [...], the string of each id.\n\n" +
			command.Examples([2]string{"Print the token ids of a pair", `echo '{"query": "resize photos", "document": "An image editor."}' | mlxrank tokenize --model builtin --input -`}),
		Flags: append(append(input.PairFlags(), &cli.BoolFlag{Name: "tokens", DisableDefaultText: true, Usage: "print token strings with the ids"}),
			command.EngineFlags(weights.Default)...),
		Action: func(c *cli.Context) error { return tokenize(c, s) },
	}
}

type tokensJSON struct {
	InputIDs     []int32  `json:"input_ids"`
	TokenTypeIDs []int32  `json:"token_type_ids"`
	Truncated    bool     `json:"truncated"`
	Tokens       []string `json:"tokens,omitempty"`
}

func tokenize(c *cli.Context, s command.Streams) (err error) {
	config, err := command.EngineConfig(c, s.Err)
	if err != nil {
		return err
	}
	if err := command.Require(c, "input"); err != nil {
		return err
	}
	in, err := input.OpenPairs(c, s.In, records.Options{Score: records.IgnoreScore})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	e, err := engine.Open(c.Context, config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, command.CloseEngine(c.Context, e, config.Logger)) }()
	r, err := in.Reader()
	if err != nil {
		return err
	}
	if r.HeaderLike {
		config.Logger.Warn().Msg(input.HeaderWarning)
	}
	chunks := input.NewChunks(r)
	if !in.Rewindable() {
		chunks.ReadAhead()
		defer chunks.Close()
	}
	out := bufio.NewWriter(input.NewWriter(c.Context, s.Out))
	for encoder := json.NewEncoder(out); ; {
		chunk, err := chunks.Next()
		if err != nil || len(chunk) == 0 {
			return err
		}
		if err := chunk.Check(r); err != nil {
			return err
		}
		tokens, err := e.Tokenize(c.Context, chunk.Pairs())
		if err != nil {
			return chunk.Locate(r, err)
		}
		for _, t := range tokens {
			line := tokensJSON{InputIDs: t.IDs, TokenTypeIDs: t.TypeIDs, Truncated: t.Truncated}
			if c.Bool("tokens") {
				if line.Tokens, err = e.TokenStrings(t.IDs); err != nil {
					return err
				}
			}
			if err := encoder.Encode(line); err != nil {
				return err
			}
		}
		if err := out.Flush(); err != nil {
			return err
		}
	}
}
