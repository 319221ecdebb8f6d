package fleet

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/input"
	"github.com/mlxrank/mlxrank/cli/internal/scored"
	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/fleet"
	"github.com/mlxrank/mlxrank/weights"
)

func submitCommand(s command.Streams) *cli.Command {
	flags := append(joinFlags(), scored.Flags()...)
	flags = append(flags,
		&cli.StringFlag{Name: "store", DefaultText: "the server", Usage: "`URL` of a folder or bucket for the data that all machines reach: file:///DIR, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX"},
		&cli.Float64Flag{Name: "tolerance", DefaultText: "0: the same device class, dtype and logits", Usage: "max difference `X` of a worker's logits from this machine's"},
		&cli.IntFlag{Name: "part-pairs", DefaultText: "256 to 4096, by the size of the input", Usage: "max pairs `N` of a part"},
		&cli.StringFlag{Name: jobFlag, Hidden: true},
		command.QuietFlag(),
	)
	return &cli.Command{
		Name:      "submit",
		Usage:     "score the query-document pairs of a file on the fleet",
		UsageText: "mlxrank fleet submit --join URL --input FILE --output FILE [flags]",
		Description: "Reads and writes what mlxrank score does, and the output is byte for byte the same.\n" +
			"The input is cut into parts and uploaded; workers score them. This machine opens the\n" +
			"model too, for the canary pairs: a worker is admitted if it scores them alike.\n\n" +
			"The command may be interrupted: workers go on, and mlxrank fleet attach JOB takes the\n" +
			"job up again. The output must be a file for that.\n\n" +
			command.Examples(
				[2]string{"Score a compressed file", "mlxrank fleet submit --join nats://TOKEN@192.0.2.7:4222 --input pairs.jsonl.zst --output scores.jsonl"},
				[2]string{"Use a mixed fleet of Macs and Linux servers", "mlxrank fleet submit --join URL --tolerance 0.001 --input pairs.jsonl --output scores.jsonl"},
				[2]string{"Keep the data in a bucket", "mlxrank fleet submit --join URL --store s3://bucket/mlxrank --input pairs.jsonl --output scores.jsonl"},
				[2]string{"Rerank a TREC run", "mlxrank fleet submit --join URL --input bm25.run --queries queries.tsv --documents collection.tsv --output reranked.run"},
			),
		Flags:  append(flags, command.EngineFlags(weights.Default)...),
		Action: func(c *cli.Context) error { return submit(c, s) },
	}
}

// jobFlag names the job that the command takes up. Only attach gives it.
const jobFlag = "job"

// A submission is one run of submit or attach.
type submission struct {
	log     zerolog.Logger
	notices command.Notices
	skip    bool // lines that cannot be scored
	long    engine.Long
	pairs   *input.Pairs
	survey  scored.Survey
	out     scored.Destination
	fleet   *fleet.Fleet
	job     *fleet.Job
	exact   bool // a pair's score is the same in any batch
	size    int  // max pairs of a part
}

func submit(c *cli.Context, s command.Streams) (err error) {
	config, err := command.EngineConfig(c, s.Err)
	if err != nil {
		return err
	}
	if err := command.SetCalibration(c, &config); err != nil {
		return err
	}
	if err := checkFlags(c); err != nil {
		return err
	}
	run := &submission{log: config.Logger, notices: command.NewNotices(c, s.Err, config.Logger), skip: scored.SkipsErrors(c), size: c.Int("part-pairs")}
	if run.long, err = command.LongMode(c); err != nil {
		return err
	}
	if run.fleet, err = connect(c.Context, c, config.Logger); err != nil {
		return err
	}
	defer run.fleet.Close()
	if run.pairs, err = input.OpenPairs(c, s.In, scored.ReaderOptions(c)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, run.pairs.Close()) }()
	if !run.pairs.Rewindable() {
		return command.Usagef("--input %s can be read only once; give a file", run.pairs.Name)
	}
	if err := run.createOutput(c, s); err != nil {
		return err
	}
	if scored.IsStream(run.out) {
		// A write to a closed pipe then fails, and does not end the process before abandon.
		broken := make(chan os.Signal, 1)
		signal.Notify(broken, syscall.SIGPIPE)
		defer signal.Stop(broken)
	}
	defer func() { err = run.close(err) }()
	if run.survey, err = scored.Check(run.pairs, nil, run.notices, run.skip); err != nil {
		if c.IsSet(jobFlag) {
			return fmt.Errorf("%w; job %s needs the input that was submitted", err, c.String(jobFlag))
		}
		return err
	}
	if err := scored.CheckName(c.String("output"), run.pairs.Options.Format, run.pairs.Options.IDs); err != nil {
		return err
	}
	if err := run.openJob(c, config); err != nil {
		return err
	}
	return run.wait(c)
}

func checkFlags(c *cli.Context) error {
	if err := scored.CheckFlags(c); err != nil {
		return err
	}
	if n := c.Int("part-pairs"); c.IsSet("part-pairs") && (n < 1 || n > 1<<16) {
		return command.Usagef("--part-pairs %d is out of range; expected 1 to %d", n, 1<<16)
	}
	if x := c.Float64("tolerance"); !(x >= 0 && x <= 100) {
		return command.Usagef("--tolerance %v is out of range; expected 0 to 100", x)
	}
	if c.IsSet("store") {
		if err := fleet.CheckPlace(c.String("store")); err != nil {
			return command.Usagef("--store: %v", err)
		}
	}
	return nil
}

// createOutput starts the output. It refuses a file that exists: a job takes long, and
// its output should not replace another one.
func (r *submission) createOutput(c *cli.Context, s command.Streams) (err error) {
	path := c.String("output")
	if err := scored.CheckApart(r.pairs.Files(), path); err != nil {
		return err
	}
	if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
		return fmt.Errorf("--output %s exists; name another file, or remove it", path)
	}
	r.out, err = scored.Create(c.Context, path, s.Out, c.IsSet(jobFlag))
	var unfinished *scored.UnfinishedError
	if !errors.As(err, &unfinished) {
		return err
	}
	// submit has no --resume.
	if job := unfinished.Setting(jobSetting); job != "" {
		return errors.New(unfinished.Continue("with mlxrank fleet attach " + job))
	}
	return errors.New(unfinished.Continue("with mlxrank score --resume"))
}

// jobSetting names the job among the settings that the output depends on.
const jobSetting = "job"

// openJob finds the job of attach, or creates one.
func (r *submission) openJob(c *cli.Context, config engine.Config) (err error) {
	if c.IsSet(jobFlag) {
		if r.job, err = r.fleet.Job(c.Context, c.String(jobFlag)); err != nil {
			return err
		}
		kept, err := readArguments(r.job)
		if err != nil {
			return err
		}
		r.exact = kept.Exact
		if r.job.State == fleet.Uploading {
			if err := r.fleet.CheckCreated(c.Context, r.job); err != nil {
				return err
			}
		}
		return r.checkInput()
	}
	e, err := engine.Open(c.Context, config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, command.CloseEngine(c.Context, e, config.Logger)) }()
	if err := e.Ready(c.Context); err != nil {
		return err
	}
	local, err := newBackend(e, r.long)
	if err != nil {
		return err
	}
	canary, pairs, err := r.canary(c.Context, local)
	if err != nil {
		return err
	}
	info := e.Info()
	r.exact = input.ExactAlone(info)
	arguments, err := keptArguments(c, r.exact)
	if err != nil {
		return err
	}
	r.job = &fleet.Job{
		Settings: settings(c, info, r.long), Identity: local.Identity(), Tolerance: c.Float64("tolerance"),
		Input: fleet.Input{Name: filepath.Base(r.pairs.Name), SHA256: fmt.Sprintf("%x", r.survey.Sum), Pairs: pairs},
		Store: c.String("store"), Submitter: arguments,
	}
	if err := r.fleet.Create(c.Context, r.job, canary); err != nil {
		return r.abandon(c.Context, err)
	}
	r.log.Info().Str("job", r.job.ID).Int("pairs", pairs).Msg("created the job")
	return nil
}

// checkInput rejects an input that is not the job's.
func (r *submission) checkInput() error {
	if found := fmt.Sprintf("%x", r.survey.Sum); found != r.job.Input.SHA256 {
		return fmt.Errorf("%s has SHA-256 %s, and job %s was submitted with %s; give the same file, or cancel the job", r.pairs.Name, found, r.job.ID, r.job.Input.SHA256)
	}
	return nil
}

// settings returns what a worker needs to open the model. Without a tolerance, it uses
// the number format of this machine.
func settings(c *cli.Context, info engine.Info, long engine.Long) fleet.Settings {
	s := fleet.Settings{
		Model: modelOf(info), DType: info.DType, MaxLength: info.MaxLength,
		Activation: engine.Activation(c.String("activation")), Label: info.Label, Long: long, Calibration: info.Calibration,
	}
	if c.Float64("tolerance") > 0 {
		s.DType = engine.DType(c.String("dtype"))
	}
	if c.IsSet("adapter") {
		s.Adapter = absolute(c.String("adapter"))
	}
	return s
}

// modelOf returns the name of a model that is the same model on every machine: a hub id
// with its revision.
func modelOf(info engine.Info) string {
	snapshots := filepath.Dir(info.Dir)
	if name, ok := strings.CutPrefix(filepath.Base(filepath.Dir(snapshots)), "models--"); ok && filepath.Base(snapshots) == "snapshots" && info.Model != weights.Builtin {
		return strings.Replace(name, "--", "/", 1) + "@" + filepath.Base(info.Dir)
	}
	if info.Model == weights.Builtin {
		return info.Model
	}
	return absolute(info.Dir)
}

func absolute(path string) string {
	if found, err := filepath.Abs(path); err == nil {
		return found
	}
	return path
}

// wait uploads what the server lacks and writes the output as parts are finished.
func (r *submission) wait(c *cli.Context) error {
	work, ctx := errgroup.WithContext(c.Context)
	parts := make(chan fleet.Part, 64)
	work.Go(func() error {
		defer close(parts)
		return r.upload(ctx, parts)
	})
	var done summary
	work.Go(func() (err error) {
		done, err = r.assemble(ctx, c, parts)
		return err
	})
	if err := work.Wait(); err != nil {
		if scored.IsStream(r.out) {
			return r.abandon(c.Context, err)
		}
		return r.explain(c.Context, err)
	}
	if err := r.out.Commit(); err != nil {
		return err
	}
	if err := r.fleet.Finish(c.Context, r.job); err != nil {
		return fmt.Errorf("the output is complete, but the job's data were not removed: %w; mlxrank fleet cancel %s removes them", err, r.job.ID)
	}
	done.print(r)
	return nil
}
