package fleet

import (
	"context"
	"fmt"
	"time"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/fleet"
	"github.com/mlxrank/mlxrank/weights"
)

func workCommand(s command.Streams) *cli.Command {
	flags := append(joinFlags(),
		&cli.StringFlag{Name: "name", DefaultText: "the host's name", Usage: "`NAME` of this worker, for status"},
		&cli.StringFlag{Name: "models", DefaultText: "none", Usage: "`DIR` with copies of models that jobs name by a folder"},
	)
	flags = append(flags, command.SomeEngineFlags(weights.Default, "device", "threads", "microbatch-tokens", "max-batch", "max-batch-tokens", "library", "log-level", "log-format", "config")...)
	command.SetLogLevel(flags, "info")
	return &cli.Command{
		Name:      "work",
		Usage:     "be a worker until told to stop",
		UsageText: "mlxrank fleet work --join URL [flags]",
		Description: "Takes parts of jobs, scores them and commits the results. The jobs choose the model,\n" +
			"which comes from the hub or a folder. Before the first part of a job, the worker scores\n" +
			"the job's canary pairs; if the scores or the model differ from the submitter's, it\n" +
			"leaves the job to others and says why.\n\n" +
			"An interrupt finishes the part that is scored, and a second one drops it. Another\n" +
			"worker gets a dropped part.\n\n" +
			command.Examples(
				[2]string{"Work for a server", "mlxrank fleet work --join nats://TOKEN@192.0.2.7:4222"},
				[2]string{"Keep the address out of the list of processes", command.JoinEnv + "=nats://TOKEN@192.0.2.7:4222 mlxrank fleet work"},
				[2]string{"Use an existing NATS cluster", "mlxrank fleet work --join tls://nats.example.org:4222 --creds worker.creds"},
			),
		Flags:  flags,
		Action: func(c *cli.Context) error { return work(c, s) },
	}
}

// stopGrace bounds the time in which a stopping worker finishes its part.
const stopGrace = 10 * time.Minute

func work(c *cli.Context, s command.Streams) error {
	if err := command.NoArguments(c); err != nil {
		return err
	}
	config, err := command.EngineConfig(c, s.Err)
	if err != nil {
		return err
	}
	if c.IsSet("models") && c.String("models") == "" {
		return command.Usagef("--models is empty")
	}
	f, err := connect(c.Context, c, config.Logger)
	if err != nil {
		return err
	}
	defer f.Close()
	name := c.String("name")
	if name == "" {
		name = hostName()
	}
	log := config.Logger
	log.Info().Str("server", f.Server()).Str("name", name).Msg("waiting for parts")
	// The worker has until stopGrace to finish its part. A second signal ends the process.
	ctx, cancel := context.WithCancel(context.WithoutCancel(c.Context))
	defer cancel()
	defer context.AfterFunc(c.Context, func() {
		log.Info().Msg("stopping after the part that is scored; interrupt again to drop it")
		time.AfterFunc(stopGrace, cancel)
	})()
	if log.GetLevel() == zerolog.InfoLevel {
		config.Logger = log.Level(zerolog.WarnLevel) // the engine's lines of each second are not a worker's news
	}
	err = f.Work(ctx, c.Context.Done(), fleet.WorkerConfig{
		Name: name, Open: opener{config, c.String("models")}.open, Logger: log,
	})
	if err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	return nil
}
