package cli

import (
	"bytes"
	"encoding/json"
	"io"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"
)

func quietFlag() cli.Flag {
	return &cli.BoolFlag{Name: "quiet", DisableDefaultText: true, Usage: "show no progress and no summary, only warnings and errors"}
}

const summaryHelp = "A summary goes to standard error, on a terminal a progress bar before it: neither with\n" +
	"--quiet or --log-level error. With --log-format json the summary is a line of the log,\n" +
	"with the message \"summary\", and there is no bar.\n\n"

// notices are what a command tells on standard error about a run that goes well.
// One that cannot be shown does not end the run: its results are what it is for.
type notices struct {
	w     io.Writer
	log   zerolog.Logger
	quiet bool
	json  bool
}

// newNotices follows --quiet, --log-level and --log-format.
func newNotices(c *cli.Context, w io.Writer, log zerolog.Logger) notices {
	return notices{
		w: w, log: log,
		quiet: c.Bool("quiet") || c.String("log-level") == zerolog.ErrorLevel.String(),
		json:  c.String("log-format") == "json",
	}
}

// progress starts a bar, which is nothing where there is none to be seen.
func (n *notices) progress(what, kind string, total int) *bar {
	if n.quiet || n.json {
		return &bar{}
	}
	return newTimedBar(n.w, what, kind, total)
}

// summary shows the facts of a run.
func (n *notices) summary(f *facts) {
	var err error
	switch {
	case n.quiet:
	case n.json:
		err = n.logSummary(f)
	default:
		_, err = io.WriteString(n.w, f.text())
	}
	if err != nil {
		n.log.Debug().Err(err).Msg("the summary cannot be shown")
	}
}

// logSummary writes the facts as an event, at every level of the log that shows
// summaries.
func (n *notices) logSummary(f *facts) error {
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
