package command

import (
	"bytes"
	"encoding/json"
	"io"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/output"
	"github.com/mlxrank/mlxrank/cli/internal/progress"
)

// QuietFlag returns the flag --quiet.
func QuietFlag() cli.Flag {
	return &cli.BoolFlag{Name: "quiet", DisableDefaultText: true, Usage: "print warnings and errors only, without progress and summary"}
}

// SummaryHelp describes the notices of a run.
const SummaryHelp = "A summary goes to standard error; a terminal also shows a progress bar. --quiet and\n" +
	"--log-level error turn both off. With --log-format json, the summary is a log line with\n" +
	"the message \"summary\", and there is no bar.\n\n"

// Notices prints the progress and the summary of a run to standard error. A write
// error does not end the run, since the results matter more.
type Notices struct {
	w     io.Writer
	log   zerolog.Logger
	quiet bool
	json  bool
}

// NewNotices returns notices as --quiet, --log-level and --log-format select them.
func NewNotices(c *cli.Context, w io.Writer, log zerolog.Logger) Notices {
	return Notices{
		w: w, log: log,
		quiet: c.Bool("quiet") || c.String("log-level") == zerolog.ErrorLevel.String(),
		json:  c.String("log-format") == "json",
	}
}

// Progress starts a bar, which draws nothing if the flags turn bars off.
func (n *Notices) Progress(what, kind string, total int) *progress.Bar {
	if n.quiet || n.json {
		return &progress.Bar{}
	}
	return progress.NewCounter(n.w, what, kind, total)
}

// Summary prints the summary of a run.
func (n *Notices) Summary(f *output.Summary) {
	var err error
	switch {
	case n.quiet:
	case n.json:
		err = n.logSummary(f)
	default:
		_, err = io.WriteString(n.w, f.Text())
	}
	if err != nil {
		n.log.Debug().Err(err).Msg("cannot write the summary")
	}
}

// Line prints the summary of a run that scores nothing: a line of text, or a log line with
// these fields.
func (n *Notices) Line(text string, fields map[string]any) {
	switch {
	case n.quiet:
	case n.json:
		n.log.Log().Str(zerolog.LevelFieldName, zerolog.InfoLevel.String()).Fields(fields).Msg("summary")
	default:
		if _, err := io.WriteString(n.w, text+"\n"); err != nil {
			n.log.Debug().Err(err).Msg("cannot write the summary")
		}
	}
}

// logSummary writes the summary as an info event, at any log level.
func (n *Notices) logSummary(f *output.Summary) error {
	data, err := json.Marshal(f)
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber() // keeps the digits
	var fields map[string]any
	if err := decoder.Decode(&fields); err != nil {
		return err
	}
	n.log.Log().Str(zerolog.LevelFieldName, zerolog.InfoLevel.String()).Fields(fields).Msg("summary")
	return nil
}
