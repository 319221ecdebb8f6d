package mlx

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestChooseBuild(t *testing.T) {
	t.Parallel()
	m5 := machine{"Apple M5 Max", "25.2.0"}
	for _, test := range []struct {
		name    string
		machine machine
		forced  string
		newer   bool
		refused string
		want    Build
		why     string // part of the reason, or of the error if want is ""
	}{
		{"M5", m5, "", true, "", Newer, "matrix units"},
		{"M5 on a later macOS", machine{"Apple M5", "26.0.0"}, "", true, "", Newer, "matrix units"},
		{"a chip after M5", machine{"Apple M12 Ultra", "27.1.0"}, "", true, "", Newer, "matrix units"},
		{"M5 without files", m5, "", false, "", Older, "no newer build"},
		{"M5 on macOS 26.1", machine{"Apple M5", "25.1.0"}, "", true, "", Older, "needs macOS 26.2"},
		{"M5 on macOS 15", machine{"Apple M5", "24.6.0"}, "", true, "", Older, "needs macOS 26.2"},
		{"M5 found wrong", m5, "", true, "off by 3", Older, "found wrong on this machine: off by 3"},
		{"M5 found wrong, forced", m5, "macos26", true, "off by 3", Newer, "forces"},
		{"M4", machine{"Apple M4 Pro", "25.4.0"}, "", true, "", Older, "no matrix units"},
		{"M1", machine{"Apple M1", "25.2.0"}, "", true, "", Older, "no matrix units"},
		{"M4 forced", machine{"Apple M4", "25.2.0"}, "macos26", true, "", Newer, "forces"},
		{"M4 forced on macOS 15", machine{"Apple M4", "24.2.0"}, "macos26", true, "", "", "needs macOS 26.2"},
		{"forced without files", m5, "macos26", false, "", "", "no folder macos26"},
		{"M5 forced to the older", m5, "macos14", true, "", Older, "forces"},
		{"unknown build", m5, "nax", true, "", "", `"nax"; expected macos14 or macos26`},
		{"A18", machine{"Apple A18 Pro", "25.2.0"}, "", true, "", Older, "no matrix units"},
		{"Intel", machine{"Intel(R) Core(TM) i9", "25.2.0"}, "", true, "", Older, "no matrix units"},
		{"nothing known", machine{}, "", true, "", Older, "no matrix units"},
		{"no kernel release", machine{"Apple M5", "x.y"}, "", true, "", Older, "needs macOS 26.2"},
	} {
		build, why, err := chooseBuild(test.machine, test.forced, test.newer, test.refused)
		if err != nil {
			why = err.Error()
		}
		if build != test.want || (err != nil) != (test.want == "") || !strings.Contains(why, test.why) {
			t.Errorf("%s: %q, %q, %v; want %q with %q", test.name, build, why, err, test.want, test.why)
		}
	}
}

func TestUsesNAX(t *testing.T) {
	t.Parallel()
	on := machine{"Apple M5", "25.2.0"}
	for _, test := range []struct {
		build        Build
		machine      machine
		architecture string
		want         bool
	}{
		{Newer, on, "applegpu_g17s", true},
		{Newer, on, "applegpu_g17g", true},
		{Newer, on, "applegpu_g17p", false},
		{Newer, on, "applegpu_g18p", true},
		{Newer, on, "applegpu_g16s", false},
		{Newer, on, "", false},
		{Newer, on, "AGXG17", false},
		{Newer, machine{"Apple M5", "25.1.0"}, "applegpu_g17s", false},
		{Older, on, "applegpu_g17s", false},
		{"", on, "applegpu_g17s", false},
	} {
		if got := usesNAX(test.build, test.machine, test.architecture); got != test.want {
			t.Errorf("%+v: %v", test, got)
		}
	}
}

// A refusal counts for the same files on the same machine, and no longer.
func TestRefusedBuild(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	m := machine{"Apple M5", "25.2.0"}
	file := filepath.Join(t.TempDir(), string(Newer), LibraryFile)
	write := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(file, "a library")
	expect := func(m machine, what, want string) {
		t.Helper()
		if got := refused(m, file); got != want {
			t.Errorf("%s: refused for %q, want %q", what, got, want)
		}
	}
	expect(m, "at first", "")
	if kept, err := refuse(m, file, "off by 3"); err != nil || !kept {
		t.Fatal(kept, err)
	}
	expect(m, "kept", "off by 3")
	expect(machine{"Apple M5", "25.3.0"}, "after an update of macOS", "")
	expect(machine{"Apple M6", "25.2.0"}, "on another chip", "")
	path, err := refusalPath()
	if err != nil {
		t.Fatal(err)
	}
	for _, damage := range []string{"", "{", "[1]", `{"reason": 7}`} {
		write(path, damage)
		expect(m, "damaged: "+damage, "")
	}
	if kept, err := refuse(m, file, "off by 4"); err != nil || !kept {
		t.Fatal(kept, err)
	}
	expect(m, "kept again", "off by 4")
	write(file, "another library")
	expect(m, "after an update of the library", "")
}

func TestRefuseBuildNeedsAnother(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	if kept, err := library(t).RefuseBuild("wrong"); kept || err != nil {
		t.Errorf("the only build: %v, %v", kept, err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, string(Newer), LibraryFile)
	for _, path := range []string{file, filepath.Join(dir, LibraryFile)} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l := &Library{info: Info{Path: file, Build: Newer}, machine: machine{"Apple M5", "25.2.0"}}
	if kept, err := l.RefuseBuild("wrong"); !kept || err != nil || refused(l.machine, file) != "wrong" {
		t.Errorf("the newer of two builds: %v, %v", kept, err)
	}
}

// Load takes the build that fits the machine, if it searches itself.
func TestPickBuild(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	t.Setenv(BuildEnv, "")
	dir := t.TempDir()
	older := filepath.Join(dir, LibraryFile)
	newer := newerFile(older)
	if err := os.MkdirAll(filepath.Dir(newer), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(newer, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m5, m4 := machine{"Apple M5", "25.2.0"}, machine{"Apple M4", "25.2.0"}
	for _, test := range []struct {
		machine machine
		forced  string
		want    string
	}{{m5, "", newer}, {m4, "", older}, {m5, "macos14", older}, {m4, "macos26", newer}} {
		t.Setenv(BuildEnv, test.forced)
		if file, why, err := pickBuild(test.machine, older); err != nil || file != test.want || why == "" {
			t.Errorf("%+v: %s, %q, %v", test, file, why, err)
		}
	}
	t.Setenv(BuildEnv, "other")
	if _, _, err := pickBuild(m5, older); err == nil {
		t.Error("an unknown build is accepted")
	}
}
