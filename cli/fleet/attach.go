package fleet

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/fleet"
)

func attachCommand(s command.Streams) *cli.Command {
	flags := append(joinFlags(),
		&cli.StringFlag{Name: "on-error", DefaultText: "as submitted", Usage: "`ACTION` for a line that cannot be scored: fail or skip"},
		command.QuietFlag(),
	)
	return &cli.Command{
		Name:      "attach",
		Usage:     "go on waiting for a job, and write its output",
		UsageText: "mlxrank fleet attach JOB --join URL",
		Description: "Takes up a job that mlxrank fleet submit left, on the machine that submitted it. The\n" +
			"input must be the same file. The output's partial file is kept up to its last saved\n" +
			"state, which is some seconds old. Parts that the server lacks are uploaded.\n\n" +
			command.Examples([2]string{"Go on after a restart", "mlxrank fleet attach 4f1c09ab77 --join nats://TOKEN@192.0.2.7:4222"}),
		Flags:  append(flags, logFlags()...),
		Action: func(c *cli.Context) error { return attach(c, s) },
	}
}

func attach(c *cli.Context, s command.Streams) error {
	id, err := jobArgument(c)
	if err != nil {
		return err
	}
	var job *fleet.Job
	err = withFleet(c, s, func(f *fleet.Fleet) (err error) {
		job, err = f.Job(c.Context, id)
		return err
	})
	if err != nil {
		return err
	}
	if !job.State.Active() {
		return fmt.Errorf("job %s is %s; there is nothing to wait for", id, job.State)
	}
	kept, err := readArguments(job)
	if err != nil {
		return err
	}
	if kept.Host != hostName() {
		log, err := newLogger(c, s)
		if err != nil {
			return err
		}
		log.Warn().Str("host", kept.Host).Msg("the job was submitted on another host; its files must be here under the same names")
	}
	return c.App.RunContext(c.Context, append([]string{c.App.Name, "fleet", "submit", "--" + jobFlag, id}, attachFlags(c, kept)...))
}

// attachFlags returns the flags of submit for a job that is taken up.
func attachFlags(c *cli.Context, kept arguments) []string {
	var flags []string
	for _, flag := range kept.Flags {
		if name, _, _ := strings.Cut(flag, "="); c.IsSet(strings.TrimPrefix(name, "--")) {
			continue // the one of attach counts
		}
		flags = append(flags, flag)
	}
	for _, name := range []string{"join", "creds", "nkey", "ca", "client-cert", "client-key", "on-error", "log-level", "log-format"} {
		if c.IsSet(name) {
			flags = append(flags, "--"+name+"="+fmt.Sprint(c.Value(name)))
		}
	}
	if c.Bool("quiet") {
		flags = append(flags, "--quiet")
	}
	return flags
}

// jobArgument returns the job that a command line names.
func jobArgument(c *cli.Context) (string, error) {
	switch c.Args().Len() {
	case 0:
		return "", command.Usagef("%s needs a JOB; mlxrank fleet list shows them", c.Command.Name)
	case 1:
		return c.Args().First(), nil
	}
	return "", command.Usagef("%s takes one JOB, found %d", c.Command.Name, c.Args().Len())
}

// withJob returns a command that does something with one job.
func withJob(s command.Streams, cmd cli.Command, do func(*cli.Context, *fleet.Fleet, string) error) *cli.Command {
	cmd.Flags = append(joinFlags(), logFlags()...)
	cmd.Action = func(c *cli.Context) error {
		id, err := jobArgument(c)
		if err != nil {
			return err
		}
		return withFleet(c, s, func(f *fleet.Fleet) error { return do(c, f, id) })
	}
	return &cmd
}

func cancelCommand(s command.Streams) *cli.Command {
	return withJob(s, cli.Command{
		Name:      "cancel",
		Usage:     "end a job and remove its data",
		UsageText: "mlxrank fleet cancel JOB --join URL",
		Description: "Workers drop the job's parts, and submit ends if it runs. If it does not run,\n" +
			"the output's partial file stays. A finished job cannot be cancelled.\n\n" +
			command.Examples([2]string{"Cancel a job", "mlxrank fleet cancel 4f1c09ab77 --join nats://TOKEN@192.0.2.7:4222"}),
	}, func(c *cli.Context, f *fleet.Fleet, id string) error { return f.Cancel(c.Context, id) })
}

func retryCommand(s command.Streams) *cli.Command {
	return withJob(s, cli.Command{
		Name:      "retry",
		Usage:     "queue the failed parts of a job again",
		UsageText: "mlxrank fleet retry JOB --join URL",
		Description: "Parts that failed too often are delivered no more; status shows them with the reason.\n" +
			"retry queues them again, and all others that the queue has lost.\n\n" +
			command.Examples([2]string{"Try again after a repair", "mlxrank fleet retry 4f1c09ab77 --join nats://TOKEN@192.0.2.7:4222"}),
	}, func(c *cli.Context, f *fleet.Fleet, id string) error {
		job, err := f.Job(c.Context, id)
		if err != nil {
			return err
		}
		if job.State != fleet.Open {
			return fmt.Errorf("job %s is %s; only an open job can be tried again", id, job.State)
		}
		return f.Rebuild(c.Context, job, true)
	})
}
