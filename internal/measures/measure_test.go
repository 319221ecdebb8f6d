package measures

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]Measure{
		"nDCG@10":          {NDCG, 10, 1},
		"nDCG":             {NDCG, 0, 1},
		"RR":               {RR, 0, 1},
		"RR@10":            {RR, 10, 1},
		"RR(rel=2)@10":     {RR, 10, 2},
		"AP":               {AP, 0, 1},
		"AP(rel=2)@100":    {AP, 100, 2},
		"AP(rel=3)":        {AP, 0, 3},
		"R@1000":           {R, 1000, 1},
		"P(rel=2)@10":      {P, 10, 2},
		"Judged@10":        {Judged, 10, 1},
		"Judged":           {Judged, 0, 1},
		"Success@1":        {Success, 1, 1},
		"Success(rel=2)@5": {Success, 5, 2},
	} {
		got, err := Parse(name)
		if err != nil || got != want {
			t.Errorf("Parse(%q) = %+v, %v; want %+v", name, got, err, want)
		}
		if got.String() != name {
			t.Errorf("Parse(%q).String() = %q", name, got)
		}
	}
	for alias, want := range map[string]string{
		"NDCG@10": "nDCG@10", "MRR@10": "RR@10", "MAP": "AP", "Recall@5": "R@5", "Precision@5": "P@5",
		"AP( rel = 2 ) @ 7": "AP(rel=2)@7", "AP(rel=1)": "AP",
	} {
		if got, err := Parse(alias); err != nil || got.String() != want {
			t.Errorf("Parse(%q) = %v, %v; want %s", alias, got, err, want)
		}
	}
}

func TestParseErrors(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"ndcg@10":              "did you mean nDCG@10?",
		"mrr@10":               "did you mean MRR@10?",
		"recall@10":            "did you mean Recall@10?",
		"succes@10":            "did you mean Success@10?",
		"Bpref":                "known: nDCG@10 RR@10",
		"":                     "unknown measure",
		"R":                    "such as R@10",
		"P(rel=2)":             "such as P(rel=2)@10",
		"nDCG@0":               `cut-off "0"`,
		"nDCG@-5":              `cut-off "-5"`,
		"nDCG@ten":             `cut-off "ten"`,
		"nDCG@99999999999999":  "cut-off",
		"nDCG(rel=2)@10":       "no parameter rel",
		"AP(rel=0)":            `rel "0"`,
		"AP(rel=two)":          `rel "two"`,
		"AP(rel=2":             "not closed",
		"AP(judged_only=True)": `parameter "judged_only" is not supported`,
	} {
		if got, err := Parse(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%q) = %v, %v; want an error with %q", name, got, err, want)
		}
	}
}

func TestParseList(t *testing.T) {
	t.Parallel()
	got, err := ParseList("nDCG@10, RR@10 AP(rel=2)@100")
	if err != nil || len(got) != 3 || got[2] != (Measure{AP, 100, 2}) {
		t.Errorf("%v, %v", got, err)
	}
	for list, want := range map[string]string{",": "no measure", "RR@10,MRR@10": "given twice", "RR@10,x": "unknown"} {
		if got, err := ParseList(list); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseList(%q) = %v, %v; want an error with %q", list, got, err, want)
		}
	}
}
