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

func QuietFlag() cli.Flag {
	return &cli.BoolFlag{Name: "quiet", DisableDefaultText: true, Usage: "print warnings and errors only, without progress and summary"}
}

const SummaryHelp = "Standard error gets a summary, and on a terminal a progress bar before it. --quiet and\n" +
	"--log-level error turn both off. With --log-format json the summary is a log line with\n" +
	"the message \"summary\", and there is no bar.\n\n"

// Notices are what a command prints to standard error about a run that goes well.
// One that cannot be shown does not end the run: its results are what it is for.
type Notices struct {
	w     io.Writer
	log   zerolog.Logger
	quiet bool
	json  bool
}

// NewNotices follows --quiet, --log-level and --log-format.
func NewNotices(c *cli.Context, w io.Writer, log zerolog.Logger) Notices {
	return Notices{
		w: w, log: log,
		quiet: c.Bool("quiet") || c.String("log-level") == zerolog.ErrorLevel.String(),
		json:  c.String("log-format") == "json",
	}
}

// Progress starts a bar, which is nothing where there is none to be seen.
func (n *Notices) Progress(what, kind string, total int) *progress.Bar {
	if n.quiet || n.json {
		return &progress.Bar{}
	}
	return progress.NewCounter(n.w, what, kind, total)
}

// Summary shows the facts of a run.
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
		n.log.Debug().Err(err).Msg("the summary cannot be shown")
	}
}

// logSummary writes the facts as an event, at every level of the log that shows
// summaries.
func (n *Notices) logSummary(f *output.Summary) error {
	data, err := json.Marshal(f)
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber() // as they were written
	var fields map[string]any
	if err := decoder.Decode(&fields); err != nil {
		return err
	}
	n.log.Log().Str(zerolog.LevelFieldName, zerolog.InfoLevel.String()).Fields(fields).Msg("summary")
	return nil
}
