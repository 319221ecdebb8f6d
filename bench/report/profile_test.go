package report

import (
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/bench/report/reporttest"
	"github.com/mlxrank/mlxrank/bench/results"
)

func TestProfileSection(t *testing.T) {
	r := result(2)
	if text := string(Markdown(r, nil)); strings.Contains(text, "Profile") || Profile(r) != "" {
		t.Error("a profile though there is none")
	}
	r.Points[0].Runs[0].Profile = &results.Profile{
		Workers: 2, BusyMS: 100, PassMS: 180, TokenizingMS: 10, Pairs: 10,
		Phases: []results.Phase{{Name: "matmul", MS: 150, Calls: 7, FLOPs: 15e9}, {Name: "copies", MS: 10}},
		Matmul: results.Work{FLOPs: 15e9, Needed: 12e9}, Attend: results.Work{FLOPs: 1e9, Needed: 1e9},
	}
	sections := parse(t, string(Markdown(r, nil)))
	at := reporttest.Find(sections, "Profile")
	if at == nil {
		t.Fatal("no section Profile")
	}
	text := Profile(r)
	for _, want := range []string{
		"| matmul | 150.0 | 71.4% | 100.0 | 7 |\n", "| rest of the pass | 20.0 | 9.5% | - | - |\n",
		"| tokenising | 10.0 | 4.8% | - | - |\n", "| waiting | 20.0 | 9.5% | - | - |\n", "| total | 210.0 | 100.0% | - | - |\n",
		"| matmul | 1500.0 | 1200.0 | 1.250 |\n", "| both | 1600.0 | 1300.0 | 1.231 |\n",
		"2 workers in the 100.0 ms", "in the registers of the GEMM", "This run was not profiled.",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the section has no %q:\n%s", want, text)
		}
	}
	if !strings.Contains(string(Markdown(r, nil)), text) {
		t.Error("the report has another section than the terminal")
	}
	r.Points[0].Engine.Kernels = results.UnfusedGraph
	if text := Profile(r); !strings.Contains(text, "evaluated operation by operation") || strings.Contains(text, "registers") {
		t.Errorf("of the unfused graph:\n%s", text)
	}
}
