package eval

import (
	"github.com/mlxrank/mlxrank/cli/internal/output"
)

// A report is the result of eval, as --json prints it.
type report struct {
	Collection     facts            `json:"collection"`
	FirstStage     firstStage       `json:"first_stage"`
	Configurations []*configuration `json:"configurations"`
	Precision      []precisionCost  `json:"precision,omitempty"`
	Failed         []failure        `json:"failed,omitempty"`
	Warnings       []string         `json:"warnings,omitempty"`
}

// A failure is a configuration that could not be evaluated.
type failure struct {
	Model     string `json:"model"`
	DType     string `json:"dtype"`
	MaxLength int    `json:"max_length"` // 0 for the model's own
	Error     string `json:"error"`
}

// facts describe the collection.
type facts struct {
	Queries         int    `json:"queries"` // that are averaged
	JudgedQueries   int    `json:"judged_queries"`
	Judgements      int    `json:"judgements"`
	Relevant        int    `json:"relevant"` // judgements above 0
	Candidates      int    `json:"candidates"`
	MissingQueries  int    `json:"missing_queries"`  // averaged queries that the first stage lacks
	UnjudgedQueries int    `json:"unjudged_queries"` // queries of the first stage without judgements
	OnlyJudged      bool   `json:"only_judged_queries"`
	Order           string `json:"order,omitempty"` // of the candidates: score, position or none
}

type firstStage struct {
	Name     string        `json:"name"`
	Measures []measureMean `json:"measures"`
}

// A measureMean is a measure averaged over queries. Lowest and Highest bound it over
// all orders of documents with equal scores. Ceiling is the value of their best order.
type measureMean struct {
	Measure string  `json:"measure"`
	Value   float64 `json:"value"`
	Lowest  float64 `json:"lowest"`
	Highest float64 `json:"highest"`
	Ceiling float64 `json:"ceiling"`
}

// A configuration is a model with its settings, or another run, compared with the
// first stage.
type configuration struct {
	Name      string `json:"name"`
	Model     string `json:"model,omitempty"`
	DType     string `json:"dtype,omitempty"`
	MaxLength int    `json:"max_length,omitempty"`
	Depth     int    `json:"depth,omitempty"`
	Missing   int    `json:"missing_queries,omitempty"`

	// PToBest is the p-value of the first measure against the configuration with the
	// highest value; nil for that one, and if there is no other.
	PToBest *float64 `json:"p_to_best,omitempty"`

	Measures   []comparison     `json:"measures"`
	Depths     []depthPoint     `json:"depths,omitempty"`
	Thresholds *thresholdReport `json:"thresholds,omitempty"`
	Examples   *examples        `json:"examples,omitempty"`
	Run        *output.Summary  `json:"run,omitempty"`

	scored *scored  // nil for a run
	after  []values // by measure
}

// A comparison is a measure before and after.
type comparison struct {
	Measure    string   `json:"measure"`
	Before     float64  `json:"before"`
	After      float64  `json:"after"`
	Lowest     float64  `json:"lowest"` // of After, over all orders of ties
	Highest    float64  `json:"highest"`
	Difference float64  `json:"difference"`
	Low        *float64 `json:"low"` // 95 % bootstrap interval of Difference; nil for a single query
	High       *float64 `json:"high"`
	P          float64  `json:"p"` // of a paired randomization test over queries
	TTest      float64  `json:"p_t_test"`
	Won        int      `json:"won"`
	Lost       int      `json:"lost"`
	Same       int      `json:"same"`
	Ceiling    *float64 `json:"ceiling,omitempty"` // of the best order of the reranked candidates, or of a run's documents; not for number formats
}

// A depthPoint is a point of the depth curve.
type depthPoint struct {
	Depth    int         `json:"depth"`
	Pairs    int         `json:"pairs"`
	Seconds  float64     `json:"seconds"`
	MS       float64     `json:"ms_per_query"`
	PairsS   float64     `json:"pairs_s"`
	Measures []depthMean `json:"measures"`
}

// A depthMean is a measure at a depth, with the interval of its difference to the
// first stage.
type depthMean struct {
	Measure    string   `json:"measure"`
	Value      float64  `json:"value"`
	Difference float64  `json:"difference"`
	Low        *float64 `json:"low"`
	High       *float64 `json:"high"`
}
