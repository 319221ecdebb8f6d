package fleet

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/engine"
)

// TestSecrets looks for texts and tokens in all logs at the level trace, in what Status
// returns, and in what the server stores besides the objects.
func TestSecrets(t *testing.T) {
	const query, document, token = "query-of-the-test", "document-of-the-test", "token-of-the-test"
	var logs lockedBuffer
	log := zerolog.New(&logs).Level(zerolog.TraceLevel)
	dir := t.TempDir()
	server, err := StartServer(ServerConfig{Dir: dir, Listen: "127.0.0.1:0", MaxStore: MinStore, Token: token, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	connection := func(url string) (*Fleet, error) {
		return Connect(testContext(t), ConnectConfig{URL: url, Name: "client", Logger: log})
	}
	if _, err := connection(strings.Replace(server.URL(), token, token+"x", 1)); err == nil {
		t.Error("a wrong token was accepted")
	}
	f, err := connection(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	// The first pair of a part cannot be scored, and another part fails for good.
	b := fake{identity: fakeIdentity, change: func(pair engine.Pair, s *Score) error {
		switch {
		case strings.HasSuffix(pair.Document, " 1"):
			s.Err = "the text has no tokens"
		case strings.HasSuffix(pair.Document, " 2"):
			return errors.New("the device is on fire")
		}
		return nil
	}}
	stop := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		ended <- f.Work(testContext(t), stop, WorkerConfig{Name: "worker", Open: open(b), Logger: log})
	}()
	job := create(t, f, Job{MaxDeliver: 1})
	uploader, err := f.Uploader(testContext(t), job.Job)
	if err != nil {
		t.Fatal(err)
	}
	for _, number := range []string{" 1", " 2", " 3"} {
		if err := uploader.Add(testContext(t), [][]engine.Pair{{{Query: query, Document: document + number}}}, 0, 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := uploader.Seal(testContext(t)); err != nil {
		t.Fatal(err)
	}
	var status *Status
	waitFor(t, "two parts to be finished and one to fail", func() bool {
		status, err = f.Status(testContext(t), job.ID)
		return err == nil && status.Finished == 2 && len(status.Failed) == 1
	})
	shown, err := json.Marshal(status)
	if err != nil {
		t.Fatal(err)
	}
	checkSecrets(t, "the status", shown, query, document, token)
	// A control: the search below finds what a key-value bucket holds.
	const control = "control-that-must-be-found"
	if _, err := f.bucket(failuresBucket).PutString(testContext(t), "control", control); err != nil {
		t.Fatal(err)
	}
	close(stop)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	f.Close()
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(logs.String(), "the device is on fire") {
		t.Error("the log has no failure: the search proves nothing")
	}
	checkSecrets(t, "the log", []byte(logs.String()), query, document, token)
	found := false
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if strings.HasPrefix(d.Name(), "OBJ_") {
				return fs.SkipDir
			}
			return nil
		}
		data, err := os.ReadFile(path)
		found = found || bytes.Contains(data, []byte(control))
		checkSecrets(t, path, data, query, document, token)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if !found {
		t.Error("the files of the server do not have the control: the search proves nothing")
	}
}

func checkSecrets(t *testing.T, where string, data []byte, secrets ...string) {
	t.Helper()
	for _, secret := range secrets {
		if bytes.Contains(data, []byte(secret)) {
			t.Errorf("%s has %q", where, secret)
		}
	}
}
