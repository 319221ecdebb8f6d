package diagnosis

import (
	"fmt"

	"github.com/mlxrank/mlxrank/internal/lab"
)

// A fault names what a server does wrong.
type fault string

const (
	typeIDsZero          fault = "token_type_ids_zero"
	pairSwapped          fault = "pair_swapped"
	poolerMissing        fault = "pooler_missing"
	separatorMissing     fault = "separator_missing"
	separatorDoubled     fault = "separator_doubled"
	specialTokensMissing fault = "special_tokens_missing"
	promptAdded          fault = "prompt_added"
	promptMissing        fault = "prompt_missing"
	sigmoidMissing       fault = "sigmoid_missing"
	sigmoidTwice         fault = "sigmoid_twice"
	softmaxOverDocuments fault = "softmax_over_documents"
	minMaxScaled         fault = "min_max_scaled"
	constant             fault = "constant"
	rescaled             fault = "scores_rescaled"
	wrongOrder           fault = "wrong_order"
	resultsMissing       fault = "results_missing"
	wrongIndex           fault = "wrong_index"
	truncation           fault = "truncation"
	shorterLimit         fault = "shorter_limit"
	longerLimit          fault = "longer_limit"
	documentsCut         fault = "documents_cut"
	specialTokensAsText  fault = "special_tokens_as_text"
	caseKept             fault = "case_kept"
	lowerCased           fault = "lower_cased"
	accentsKept          fault = "accents_kept"
	precision            fault = "precision"
	rounding             fault = "rounding"
	unknown              fault = "unknown"
)

// Faults lists the names of all faults.
func Faults() []string {
	list := []fault{
		typeIDsZero, poolerMissing, pairSwapped, separatorMissing, separatorDoubled, specialTokensMissing, promptAdded, promptMissing,
		sigmoidMissing, sigmoidTwice, softmaxOverDocuments, minMaxScaled, constant, rescaled, wrongOrder, resultsMissing, wrongIndex,
		truncation, shorterLimit, longerLimit, documentsCut, specialTokensAsText, caseKept, lowerCased, accentsKept,
		precision, rounding, unknown,
	}
	names := make([]string, len(list))
	for i, f := range list {
		names[i] = string(f)
	}
	return names
}

// A Fault is a fault that was found, in words.
type Fault struct {
	Name     string `json:"name"`
	Text     string `json:"text"`
	Accepted bool   `json:"accepted,omitempty"` // it does not count
}

func (f fault) found(format string, args ...any) Fault {
	return Fault{Name: string(f), Text: fmt.Sprintf(format, args...)}
}

var frameFaults = map[frame]Fault{
	frameNoMiddle:  separatorMissing.found("there is no separator between query and document"),
	frameTwoMiddle: separatorDoubled.found("the separator between query and document is there twice"),
	frameNoLast:    separatorMissing.found("there is no separator after the document"),
	frameNone:      specialTokensMissing.found("there are no special tokens around the texts"),
}

var cutFaults = map[cut]string{
	cutRight:        "long pairs are cut at the end",
	cutLeft:         "long pairs are cut at the beginning (truncation side left)",
	cutDocument:     "long pairs lose tokens of the document only, at its end (only_second instead of longest_first)",
	cutDocumentLeft: "long pairs lose tokens of the document only, at its beginning",
	cutSlow:         "where query and document are both long, the query gets the odd token, as Python's slow tokenizers count",
	cutBlind:        "long pairs are cut without regard for the last special token, which is lost",
}

var orderFaults = map[order]string{
	orderRanks:    "the index of a result is its rank and not the document's",
	orderUnsorted: "the indexes are sorted by score, but the scores are not",
	orderReversed: "the scores are attached to the documents from the last to the first",
	orderShort:    "the documents were sorted by length, short ones first, and the scores not put back",
	orderLong:     "the documents were sorted by length, long ones first, and the scores not put back",
	orderAny:      "the scores are right, but attached to other documents of the request",
}

var unitNames = map[unit]string{characters: "characters", bytesOf: "bytes", words: "words", tokensOf: "tokens"}

// faults lists in words how a reading differs from the model's own.
func (r reading) faults(maxLength int) []Fault {
	var list []Fault
	if r.zeroTypes {
		list = append(list, typeIDsZero.found("token type ids are all 0; the model's template has others for the document"))
	}
	if r.lastLayer {
		list = append(list, poolerMissing.found("the head has its last layer only; the layers before it, such as BERT's pooler, are missing"))
	}
	if r.swapped {
		list = append(list, pairSwapped.found("query and document are swapped"))
	}
	if r.frame != frameTemplate {
		list = append(list, frameFaults[r.frame])
	}
	switch p := r.prompt; {
	case p.missing:
		list = append(list, promptMissing.found("the model's prompt is not put before the query"))
	case p != prompt{}:
		list = append(list, promptAdded.found("a prompt is added: %q before the query, %q before the document", p.query, p.document))
	}
	list = append(list, r.cutFaults(maxLength)...)
	return append(list, r.spellingFaults()...)
}

func (r reading) cutFaults(maxLength int) []Fault {
	var list []Fault
	switch {
	case r.limit > maxLength:
		list = append(list, longerLimit.found("a limit of %d tokens explains the answers, the model takes %d here; --max-length sets another limit", r.limit, maxLength))
	case r.limit > 0:
		list = append(list, shorterLimit.found("pairs are cut to %d tokens", r.limit))
	}
	if r.cut != cutOwn {
		list = append(list, truncation.found("%s", cutFaults[r.cut]))
	}
	if r.keep.unit != whole {
		list = append(list, documentsCut.found("documents are cut to their first %d %s", r.keep.n, unitNames[r.keep.unit]))
	}
	return list
}

func (r reading) spellingFaults() []Fault {
	var list []Fault
	if r.spelling.PlainSpecials {
		list = append(list, specialTokensAsText.found("special tokens in a text, such as [SEP], are read as plain text"))
	}
	if r.spelling.KeepCase {
		list = append(list, caseKept.found("texts are not lower-cased, and the model's tokenizer does that"))
	} else if r.spelling.KeepAccents {
		list = append(list, accentsKept.found("accents are not removed, and the model's tokenizer does that"))
	}
	if r.lower {
		list = append(list, lowerCased.found("texts are lower-cased, and the model's tokenizer does not do that"))
	}
	return list
}

// A noise is a size of differences by which a number format shows itself.
type noise struct {
	name     string
	rms, max float64 // shares of the deviation of the logits
}

// noises are the sizes, the smallest first. With an earlier adapter of builtin, float16
// had a root mean square of 0.0011 and a maximum of 0.0045, bfloat16 0.0041 and 0.014,
// weights of 8 bits 0.017 and 0.065, weights of 6 bits 0.07 and 0.32. Other models and
// programs differ, so the limits are wider. With the present one, weights of 6 bits
// exceed them.
var noises = []noise{
	{"float32", exactRMS, exactMax},
	{"float16", 0.0025, 0.012},
	{"bfloat16", 0.012, 0.05},
	{"int8", 0.05, 0.25},
	{"fewer than 8 bits", 0.12, 0.5},
}

// Differences of float32 programs, as shares of the deviation of the logits.
const (
	exactRMS = 1e-4
	exactMax = 5e-4
)

// globals returns the readings that change every pair, by how much they differ from
// the model's own.
func globals(own string, layers bool) []reading {
	all := prompts
	if own != "" {
		all = append([]prompt{{missing: true}}, prompts...)
	}
	var list []reading
	for _, zero := range []bool{false, true} {
		if r := (reading{zeroTypes: zero, lastLayer: true}); layers {
			list = append(list, r)
		}
		for _, swapped := range []bool{false, true} {
			for f := frameTemplate; f < frames; f++ {
				for _, p := range append([]prompt{{}}, all...) {
					if r := (reading{zeroTypes: zero, swapped: swapped, frame: f, prompt: p}); r.parts() <= 2 {
						list = append(list, r)
					}
				}
			}
		}
	}
	return list
}

// locals returns the changes of a reading that only some pairs show, each of a part
// that the reading leaves as it is.
func locals(r reading, maxLength int) []reading {
	var list []reading
	add := func(change func(*reading)) {
		changed := r
		change(&changed)
		if changed != r {
			list = append(list, changed)
		}
	}
	if r.cut == cutOwn {
		for c := cutRight; c < cuts; c++ {
			add(func(r *reading) { r.cut = c })
		}
	}
	for _, s := range []lab.Spelling{{PlainSpecials: true}, {KeepCase: true, KeepAccents: true}, {KeepCase: true}, {KeepAccents: true}} {
		add(func(r *reading) {
			r.spelling.PlainSpecials = r.spelling.PlainSpecials || s.PlainSpecials
			r.spelling.KeepCase = r.spelling.KeepCase || s.KeepCase
			r.spelling.KeepAccents = r.spelling.KeepAccents || s.KeepAccents
		})
	}
	add(func(r *reading) { r.lower = true })
	if r.limit == 0 {
		for _, limit := range []int{64, 128, 256, 384, 512} {
			if limit < maxLength {
				add(func(r *reading) { r.limit = limit })
			}
		}
	}
	return list
}
