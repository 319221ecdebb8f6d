package fleet

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/output"
	"github.com/mlxrank/mlxrank/fleet"
)

func statusCommand(s command.Streams) *cli.Command {
	return &cli.Command{
		Name:      "status",
		Usage:     "show a job, or the active jobs and the workers",
		UsageText: "mlxrank fleet status [JOB] --join URL",
		Description: "For a job: its parts, its workers, and the parts that failed, with the reason. Parts\n" +
			"that failed for good stop the job until mlxrank fleet retry.\n\n" +
			command.Examples(
				[2]string{"Show the fleet", "mlxrank fleet status --join nats://TOKEN@192.0.2.7:4222"},
				[2]string{"Show a job as JSON", "mlxrank fleet status 4f1c09ab77 --json --join nats://TOKEN@192.0.2.7:4222"},
			),
		Flags: append(append(joinFlags(), jsonFlag()), logFlags()...),
		Action: func(c *cli.Context) error {
			if c.Args().Len() > 1 {
				return command.Usagef("status takes one JOB, found %d", c.Args().Len())
			}
			return withFleet(c, s, func(f *fleet.Fleet) error { return status(c, s, f, c.Args().First()) })
		},
	}
}

func listCommand(s command.Streams) *cli.Command {
	return &cli.Command{
		Name:      "list",
		Usage:     "list all jobs",
		UsageText: "mlxrank fleet list --join URL",
		Description: "Lists jobs of every state, the oldest first. status leaves out jobs that have ended.\n\n" +
			command.Examples([2]string{"List the jobs", "mlxrank fleet list --join nats://TOKEN@192.0.2.7:4222"}),
		Flags: append(append(joinFlags(), jsonFlag()), logFlags()...),
		Action: func(c *cli.Context) error {
			if err := command.NoArguments(c); err != nil {
				return err
			}
			return withFleet(c, s, func(f *fleet.Fleet) error { return list(c, s, f) })
		},
	}
}

func jsonFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", Usage: "print JSON", DisableDefaultText: true}
}

// withFleet does something with a connection to the fleet's server.
func withFleet(c *cli.Context, s command.Streams, do func(*fleet.Fleet) error) error {
	log, err := newLogger(c, s)
	if err != nil {
		return err
	}
	f, err := connect(c.Context, c, log)
	if err != nil {
		return err
	}
	defer f.Close()
	return do(f)
}

// A jobRow describes a job in JSON.
type jobRow struct {
	ID        string    `json:"job"`
	State     string    `json:"state"`
	Started   time.Time `json:"started"`
	Input     string    `json:"input"`
	Model     string    `json:"model"`
	DType     string    `json:"dtype"`
	Class     string    `json:"class"`
	Pairs     int       `json:"pairs"`
	Parts     int       `json:"parts"` // 0 until all are uploaded
	Finished  int       `json:"finished_parts"`
	DonePairs int       `json:"finished_pairs"`
	Unscored  int       `json:"unscored_pairs"` // of the finished ones
	Queued    int       `json:"queued_parts"`
	Working   int       `json:"working_parts"`
	Rate      float64   `json:"pairs_s"`

	Failed   []failedPart `json:"failed_parts"`
	Troubled []failedPart `json:"troubled_parts"`
	Workers  []workerRow  `json:"workers,omitempty"`
}

type failedPart struct {
	Part       int    `json:"part"`
	Deliveries int    `json:"deliveries"`
	Worker     string `json:"worker"`
	Reason     string `json:"reason"`
}

type workerRow struct {
	Name    string  `json:"worker"`
	Class   string  `json:"class"`
	Model   string  `json:"model"`
	Job     string  `json:"job"`
	Part    int     `json:"part"`
	Pairs   int64   `json:"pairs"`
	Rate    float64 `json:"pairs_s"`
	Refused string  `json:"refused,omitempty"` // why the job does not admit it
}

func newJobRow(s *fleet.Status) jobRow {
	j := s.Job
	row := jobRow{
		ID: j.ID, State: string(j.State), Started: j.Started, Input: j.Input.Name, Model: j.Settings.Model, DType: string(j.Identity.DType), Class: j.Identity.Class,
		Pairs: j.Input.Pairs, Parts: j.Parts, Finished: s.Finished, DonePairs: s.Pairs, Unscored: s.Unscored, Queued: s.Queued, Working: s.Working, Rate: s.Rate,
		Failed: failedParts(s.Failed), Troubled: failedParts(s.Troubled),
	}
	if j.State == fleet.Done {
		row.Finished, row.DonePairs = j.Parts, j.Input.Pairs
	}
	return row
}

func failedParts(failures map[int]fleet.Failure) []failedPart {
	list := []failedPart{}
	for _, part := range slices.Sorted(maps.Keys(failures)) {
		f := failures[part]
		list = append(list, failedPart{part, f.Deliveries, f.Worker, f.Reason})
	}
	return list
}

// newWorkerRow describes a worker, with the reason why a job does not admit it.
func newWorkerRow(w fleet.WorkerState, job string) workerRow {
	return workerRow{w.Name, w.Class, w.Model, w.Job, w.Part, w.Pairs, w.Rate, w.Refused[job]}
}

func status(c *cli.Context, s command.Streams, f *fleet.Fleet, id string) error {
	if id == "" {
		return overview(c, s, f)
	}
	found, err := f.Status(c.Context, id)
	if err != nil {
		return err
	}
	row := newJobRow(found)
	for _, w := range found.Workers {
		if w.Job == id || w.Refused[id] != "" {
			row.Workers = append(row.Workers, newWorkerRow(w, id))
		}
	}
	if c.Bool("json") {
		return output.PrintJSON(s.Out, row)
	}
	return row.print(s)
}

// print prints a job for people.
func (r jobRow) print(s command.Streams) error {
	lines := []string{
		fmt.Sprintf("job       %s, %s", r.ID, r.State),
		fmt.Sprintf("input     %s", r.Input),
		fmt.Sprintf("model     %s, %s, %s", r.Model, r.DType, r.Class),
		fmt.Sprintf("pairs     %d of %d finished%s, %.0f pairs/s", r.DonePairs, r.Pairs, unscored(r.Unscored), r.Rate),
		fmt.Sprintf("parts     %d finished, %d with workers, %d queued, %d failed", r.Finished, r.Working, r.Queued, len(r.Failed)),
	}
	if err := command.PrintLines(s.Out, lines); err != nil {
		return err
	}
	if err := printParts(s, "failed, and not tried again", r.Failed); err != nil {
		return err
	}
	if err := printParts(s, "failed, and tried again", r.Troubled); err != nil {
		return err
	}
	return printWorkers(s, r.Workers)
}

func unscored(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" (%d could not be scored)", n)
}

func printParts(s command.Streams, title string, parts []failedPart) error {
	if len(parts) == 0 {
		return nil
	}
	table := output.Table{Header: []string{"part", "tries", "worker", title}}
	for _, p := range parts {
		table.Add(fmt.Sprint(p.Part), fmt.Sprint(p.Deliveries), p.Worker, p.Reason)
	}
	return printTable(s, table)
}

func printWorkers(s command.Streams, workers []workerRow) error {
	if len(workers) == 0 {
		return nil
	}
	table := output.Table{Header: []string{"worker", "job", "part", "pairs", "pairs/s", "device class"}}
	for _, w := range workers {
		part := "-"
		if w.Job != "" {
			part = fmt.Sprint(w.Part)
		}
		table.Add(w.Name, cmp.Or(w.Job, "-"), part, fmt.Sprint(w.Pairs), fmt.Sprintf("%.0f", w.Rate), cmp.Or(w.Class, "-"))
		if w.Refused != "" {
			table.Note("not admitted: " + w.Refused)
		}
	}
	return printTable(s, table)
}

func printTable(s command.Streams, table output.Table) error {
	if _, err := fmt.Fprintln(s.Out); err != nil {
		return err
	}
	return table.Write(s.Out, output.Width(s.Out))
}

// overview prints the active jobs and all workers.
func overview(c *cli.Context, s command.Streams, f *fleet.Fleet) error {
	jobs, err := f.Jobs(c.Context)
	if err != nil {
		return err
	}
	rows := []jobRow{}
	for _, job := range jobs {
		if !job.State.Active() {
			continue
		}
		found, err := f.Status(c.Context, job.ID)
		if err != nil {
			return err
		}
		rows = append(rows, newJobRow(found))
	}
	states, err := f.Workers(c.Context)
	if err != nil {
		return err
	}
	workers := []workerRow{}
	for _, w := range states {
		workers = append(workers, newWorkerRow(w, ""))
	}
	if c.Bool("json") {
		return output.PrintJSON(s.Out, map[string]any{"server": f.Server(), "jobs": rows, "workers": workers})
	}
	lines := []string{fmt.Sprintf("%s: %s, %s", f.Server(), output.Count(len(rows), "active job", "active jobs"), output.Count(len(workers), "worker", "workers"))}
	if err := command.PrintLines(s.Out, lines); err != nil {
		return err
	}
	if err := printJobs(s, rows); err != nil {
		return err
	}
	return printWorkers(s, workers)
}

func printJobs(s command.Streams, rows []jobRow) error {
	if len(rows) == 0 {
		return nil
	}
	return printTable(s, jobTable(rows))
}

// jobTable returns the table of jobs, which fits a terminal of 80 columns.
func jobTable(rows []jobRow) output.Table {
	table := output.Table{Header: []string{"job", "state", "started", "pairs", "finished", "failed", "input"}}
	for _, r := range rows {
		finished := "-"
		if r.State != string(fleet.Cancelled) && r.Pairs > 0 {
			finished = fmt.Sprintf("%.1f %%", 100*float64(r.DonePairs)/float64(r.Pairs))
		}
		table.Add(r.ID, r.State, r.Started.Local().Format("2006-01-02 15:04"), fmt.Sprint(r.Pairs), finished, fmt.Sprint(len(r.Failed)), r.Input)
	}
	return table
}

func list(c *cli.Context, s command.Streams, f *fleet.Fleet) error {
	jobs, err := f.Jobs(c.Context)
	if err != nil {
		return err
	}
	rows := []jobRow{}
	for _, job := range jobs {
		found, err := f.Status(c.Context, job.ID)
		if err != nil {
			return err
		}
		rows = append(rows, newJobRow(found))
	}
	if c.Bool("json") {
		return output.PrintJSON(s.Out, rows)
	}
	return printJobs(s, rows)
}
