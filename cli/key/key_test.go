package key

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/clitest/commandtest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/keyfile"
)

var mlxrank = commandtest.New(Command).Program()

func TestMain(m *testing.M) { os.Exit(clitest.Isolate(m)) }

var printed = regexp.MustCompile(`^(mlxrank-[A-Za-z0-9_-]{43})\n(.*)$`)

func TestKeyNew(t *testing.T) {
	r := mlxrank.MustRun(t, "", "key", "new", "--name", "a", "--admin", "--max-requests", "4", "--pairs-per-minute", "60000")
	found := printed.FindStringSubmatch(strings.TrimSuffix(r.Out, "\n"))
	if found == nil {
		t.Fatalf("it prints %q", r.Out)
	}
	want := fmt.Sprintf(`- {name: "a", sha256: "%x", admin: true, max-requests: 4, pairs-per-minute: 60000}`, sha256.Sum256([]byte(found[1])))
	if found[2] != want {
		t.Errorf("it prints %s, want %s", found[2], want)
	}
	path := filepath.Join(t.TempDir(), "keys.yaml")
	var hashes [2][32]byte
	for i, name := range []string{"a", "b"} {
		r = mlxrank.MustRun(t, "", "key", "new", "--name", name, "--keys", path)
		if found = printed.FindStringSubmatch(r.Out); found == nil || found[2] != "" || !strings.Contains(r.ErrOut, "added key "+name+" to "+path) || strings.Contains(r.ErrOut, found[1]) {
			t.Fatalf("it prints %q and %q", r.Out, r.ErrOut)
		}
		hashes[i] = sha256.Sum256([]byte(found[1]))
	}
	keys, err := keyfile.Read(path)
	if err != nil || len(keys) != 2 || keys[0].SHA256 != hashes[0] || keys[1].SHA256 != hashes[1] || hashes[0] == hashes[1] {
		t.Errorf("%+v, %v", keys, err)
	}
	for words, args := range map[string][]string{
		"--name is missing":             nil,
		`name "a b" is not valid`:       {"--name", "a b"},
		"--max-requests 0 is too small": {"--name", "c", "--max-requests", "0"},
		"--keys is empty":               {"--name", "c", "--keys", ""},
	} {
		clitest.CheckFailure(t, mlxrank.Run(t, "", append([]string{"key", "new"}, args...)...), command.ExitUsage, words)
	}
	clitest.CheckFailure(t, mlxrank.Run(t, "", "key", "new", "--name", "a", "--keys", path), command.ExitFailure, "key a is there twice")
	clitest.CheckFailure(t, mlxrank.Run(t, "", "key"), command.ExitUsage, "key needs a command: new")
}
