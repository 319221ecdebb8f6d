package eval

import (
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/input"
	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/internal/measures"
	"github.com/mlxrank/mlxrank/weights"
)

const defaultMeasures = "nDCG@10 RR@10 AP R@100 P@10 Judged@10"

var defaultDepths = []int{10, 20, 50, 100, 200}

// evalFlags returns the flags that only eval has.
func evalFlags() []cli.Flag {
	flags := []cli.Flag{
		&cli.BoolFlag{Name: "demo", DisableDefaultText: true, Usage: "evaluate the builtin model on the collection that is part of mlxrank"},
		&cli.StringFlag{Name: "qrels", DefaultText: "none", Usage: "`FILE` of judgements"},
		&cli.StringSliceFlag{Name: "run", Usage: "`FILE` with a run; models rerank the first, and the others are compared with it"},
		&cli.StringFlag{Name: "candidates", DefaultText: "none", Usage: "`FILE` of queries and documents to rerank, in place of --run"},
		&cli.StringFlag{Name: "beir", DefaultText: "none", Usage: "`DIR` of a BEIR collection, in place of --queries, --documents and --qrels"},
	}
	flags = append(flags, input.TextFlags()...)
	return append(flags,
		&cli.StringFlag{Name: "measures", Value: defaultMeasures, DefaultText: defaultMeasures, Usage: "measures to compute, `LIST` with spaces or commas"},
		&cli.StringFlag{Name: "depth", DefaultText: "10,20,50,100,200, as far as the candidates go", Usage: "documents to rerank per query, `N` or a list with commas"},
		&cli.BoolFlag{Name: "only-judged-queries", DisableDefaultText: true, Usage: "omit queries that not all runs have, in place of counting 0"},
		command.LongFlag(),
		&cli.BoolFlag{Name: "thresholds", DisableDefaultText: true, Usage: "show the scores of relevant and other pairs, and thresholds"},
		&cli.Float64Flag{Name: "precision", Value: defaultPrecision, DefaultText: "0.9", Usage: "wanted precision `P` of a threshold, above 0 and up to 1; implies --thresholds"},
		&cli.StringFlag{Name: "write-calibration", DefaultText: "none", Usage: "`FILE` for the temperature and shift that fit the judgements, for --calibration"},
		&cli.StringFlag{Name: "write-run", DefaultText: "none", Usage: "`FILE` for the reranked run, in TREC's format"},
		&cli.StringFlag{Name: "per-query", DefaultText: "none", Usage: "`FILE` for the measures of each query as TSV, - for standard output"},
		&cli.StringFlag{Name: "plot", DefaultText: "none", Usage: "`FILE.png` or FILE.svg for a plot of the first measure by depth and by time"},
		&cli.IntFlag{Name: "examples", DefaultText: "0; 3 with --demo", Usage: "number of queries to show, `N`, that gained most and that lost most"},
		&cli.BoolFlag{Name: "markdown", DisableDefaultText: true, Usage: "print the tables as Markdown"},
		command.JSONFlag(), command.QuietFlag(), command.ProfileFlag(),
	)
}

const defaultPrecision = 0.9

// options holds the checked flags.
type options struct {
	measures   []measures.Measure
	depths     []int // nil for the default
	onlyJudged bool
	configs    []engine.Config // none if only runs are compared
	long       engine.Long
	thresholds bool
	precision  float64
	examples   int

	json, markdown                        bool
	perQuery, plot, writeRun, calibration string // files, "" for none

	notices command.Notices
}

// newOptions checks the flags.
func newOptions(c *cli.Context, s command.Streams) (*options, error) {
	if err := command.NoArguments(c); err != nil {
		return nil, err
	}
	if c.Bool("demo") {
		if err := setDemo(c); err != nil {
			return nil, err
		}
	}
	configs, err := command.EngineConfigs(c, s.Err)
	if err != nil {
		return nil, err
	}
	o := &options{
		configs: configs, onlyJudged: c.Bool("only-judged-queries"), examples: c.Int("examples"),
		thresholds: c.Bool("thresholds") || c.IsSet("precision"), precision: c.Float64("precision"),
		json: c.Bool("json"), markdown: c.Bool("markdown"),
		perQuery: c.String("per-query"), plot: c.String("plot"), writeRun: c.String("write-run"), calibration: c.String("write-calibration"),
		notices: command.NewNotices(c, s.Err, configs[0].Logger),
	}
	if o.long, err = command.LongMode(c); err != nil {
		return nil, err
	}
	if o.measures, err = measures.ParseList(c.String("measures")); err != nil {
		return nil, command.Usagef("--measures: %v", err)
	}
	if c.IsSet("depth") {
		if o.depths, err = command.Numbers(c, "depth", 1); err != nil {
			return nil, err
		}
	}
	if err := o.checkInputs(c); err != nil {
		return nil, err
	}
	return o, o.checkOutputs(c)
}

// setDemo sets what --demo implies, and rejects inputs of the user.
func setDemo(c *cli.Context) error {
	for _, name := range []string{"qrels", "run", "candidates", "beir", "queries", "documents"} {
		if c.IsSet(name) {
			return command.Usagef("--demo has a collection of its own; omit --%s or --demo", name)
		}
	}
	for _, preset := range [][2]string{{"examples", "3"}, {"depth", demoDepths}, {"max-length", demoLength}, {"model", weights.Builtin}} {
		if !c.IsSet(preset[0]) {
			if err := c.Set(preset[0], preset[1]); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkInputs rejects combinations of inputs, and drops the configurations if there
// are no texts to score.
func (o *options) checkInputs(c *cli.Context) error {
	given := func(name string) bool { return c.IsSet(name) }
	runs := c.StringSlice("run")
	texts := given("queries") || given("documents") || given("beir")
	switch {
	case c.Bool("demo"):
		return nil
	case given("candidates") && len(runs) > 0:
		return command.Usagef("--candidates and --run both give the candidates; choose one")
	case given("candidates") && given("beir"):
		return command.Usagef("--candidates has texts of its own; omit --beir, and give --qrels FILE if it has no labels")
	case given("candidates"):
		return nil
	case len(runs) == 0:
		return command.Usagef("no run to evaluate: give --run FILE or --candidates FILE, or try mlxrank eval --demo (see mlxrank eval --help)")
	case !given("qrels") && !given("beir"):
		return command.Usagef("--qrels is missing; give --qrels FILE with the judgements, or --beir DIR")
	case given("beir") && (given("queries") || given("documents")):
		return command.Usagef("--beir has queries and documents already; omit --queries and --documents, or give --qrels in place of --beir")
	case texts && !given("beir") && (!given("queries") || !given("documents")):
		return command.Usagef("--queries and --documents belong together: a model needs both; without both, only runs are compared")
	case !texts:
		return o.withoutModel(c)
	}
	return nil
}

// withoutModel rejects flags that need a model.
func (o *options) withoutModel(c *cli.Context) error {
	o.configs = nil
	for _, name := range []string{"depth", "thresholds", "precision", "write-calibration", "write-run", "plot", "long", "examples"} {
		if c.IsSet(name) {
			return command.Usagef("--%s needs a model, which needs the texts; add --queries FILE and --documents FILE, or --beir DIR", name)
		}
	}
	for _, name := range []string{"model", "dtype", "max-length", "adapter"} {
		if c.IsSet(name) && command.Source(c, name) == "--"+name {
			return command.Usagef("--%s needs texts to score; add --queries FILE and --documents FILE, or --beir DIR", name)
		}
	}
	return nil
}

// checkOutputs checks the flags of the output.
func (o *options) checkOutputs(c *cli.Context) error {
	switch ext := strings.ToLower(filepath.Ext(o.plot)); {
	case o.json && o.markdown:
		return command.Usagef("--json and --markdown both choose the output; give one")
	case o.perQuery == "-" && (o.json || o.markdown):
		return command.Usagef("--per-query - prints TSV in place of the tables; omit --json and --markdown, or give a file")
	case o.plot != "" && ext != ".png" && ext != ".svg":
		return command.Usagef("--plot %q is not the name of a .png or .svg file", o.plot)
	case c.IsSet("examples") && o.examples < 0:
		return command.Usagef("--examples %d is negative; expected the number of queries", o.examples)
	case o.thresholds && !(o.precision > 0 && o.precision <= 1):
		return command.Usagef("--precision %v is not above 0 and up to 1", o.precision)
	case o.writeRun != "" && len(o.configs) > 1:
		return command.Usagef("--write-run writes the run of one configuration, found %d; give one --model, --max-length and --dtype", len(o.configs))
	case o.calibration != "" && len(o.configs) > 1:
		return command.Usagef("--write-calibration calibrates one configuration, found %d; give one --model, --max-length and --dtype", len(o.configs))
	}
	return checkOutputFiles(c)
}
