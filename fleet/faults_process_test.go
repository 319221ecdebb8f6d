package fleet

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/engine"
)

// roleVariable makes the test program a process of a fleet. It holds a role as JSON.
const roleVariable = "MLXRANK_FLEET_TEST_ROLE"

// againVariable is set in a process that goes on with an earlier server. It writes
// startedAgain to its log.
const (
	againVariable = "MLXRANK_FLEET_TEST_AGAIN"
	startedAgain  = "started again"
)

// A role says what a process of a test does.
type role struct {
	Kind string // server, worker or submitter
	Name string
	URL  string // of the server

	// of a server
	Dir      string
	Listen   string
	MaxStore int64
	Unsynced bool
	Tmpfs    string // options of a tmpfs to mount at Dir, "" for none
	Ballast  string // file to fill the disk with

	// of a worker
	Identity Identity
	Delay    time.Duration // of a pair
	Log      string        // file that gets a line for each scored part
	Poison   bool          // every 20th part ends the worker, or fails
	Patient  bool          // try to connect until the network is there
	NaN      int           // scores after so many are NaN, 0 for none

	// of a submitter
	Job    Job
	Parts  int
	Size   int    // pairs of a part
	Output string // file for the scores; Output+".job" has the job's id
}

func TestMain(m *testing.M) {
	text := os.Getenv(roleVariable)
	if text == "" {
		flag.Parse()
		// These tests wait more than they compute.
		if err := flag.Set("test.parallel", "6"); err != nil {
			panic(err)
		}
		os.Exit(m.Run())
	}
	var r role
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if err := r.run(); err != nil {
		fmt.Fprintf(os.Stderr, "%s %s: %v\n", r.Kind, r.Name, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func (r role) run() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	switch r.Kind {
	case "server":
		return r.serve()
	case "worker":
		go exitWithParent()
		return r.work(ctx)
	case "submitter":
		go exitWithParent()
		return r.submit(ctx)
	}
	return fmt.Errorf("no such role: %q", r.Kind)
}

// exitWithParent ends the process when the test that started it has ended.
func exitWithParent() {
	io.Copy(io.Discard, os.Stdin) //nolint:errcheck // any end is the parent's
	os.Exit(3)
}

func (r role) log() zerolog.Logger {
	return zerolog.New(os.Stderr).Level(zerolog.DebugLevel).With().Timestamp().Logger()
}

// serve runs a server until its input ends. It obeys the commands "fill", "room" and
// "traffic". A server that ends goes on in a new process.
func (r role) serve() error {
	again := os.Getenv(againVariable) != ""
	if r.Tmpfs != "" && !again {
		if err := mountTmpfs(r.Dir, r.Tmpfs); err != nil {
			return fmt.Errorf("mount a tmpfs: %w", err)
		}
	}
	server, err := StartServer(ServerConfig{
		Dir: r.Dir, Listen: r.Listen, MaxStore: cmp.Or(r.MaxStore, 1<<30), Logger: r.log().Level(zerolog.InfoLevel), unsynced: r.Unsynced,
	})
	if err != nil {
		return err
	}
	if again {
		fmt.Fprintln(os.Stderr, startedAgain)
	} else {
		fmt.Println(server.URL())
	}
	go func() {
		<-server.Ended()
		err := syscall.Exec(os.Args[0], os.Args, append(os.Environ(), againVariable+"=1"))
		fmt.Fprintln(os.Stderr, "start again:", err)
	}()
	commands := bufio.NewScanner(os.Stdin)
	for commands.Scan() {
		switch commands.Text() {
		case "fill":
			fmt.Println(fillDisk(r.Ballast))
		case "room":
			fmt.Println(os.Remove(r.Ballast))
		case "traffic":
			fmt.Println(serverTraffic(server))
		}
	}
	return server.Close()
}

// fillDisk writes a file until its disk is full.
func fillDisk(path string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // a full disk is what it is for
	for _, block := range [][]byte{make([]byte, 1<<20), make([]byte, 4<<10)} {
		for err = nil; err == nil; {
			_, err = file.Write(block)
		}
	}
	if errors.Is(err, syscall.ENOSPC) {
		return nil
	}
	return err
}

func (r role) work(ctx context.Context) error {
	f, err := Connect(ctx, ConnectConfig{URL: r.URL, Name: r.Name, Logger: r.log()})
	for r.Patient && err != nil && ctx.Err() == nil {
		time.Sleep(200 * time.Millisecond)
		f, err = Connect(ctx, ConnectConfig{URL: r.URL, Name: r.Name, Logger: r.log()})
	}
	if err != nil {
		return err
	}
	defer f.Close()
	fmt.Println("clock", time.Now().Unix())
	scored := 0
	b := fake{identity: r.Identity, delay: r.Delay, change: func(pair engine.Pair, s *Score) error {
		if scored++; r.NaN > 0 && scored > r.NaN {
			s.Logit = float32(math.NaN())
		}
		return r.change(pair)
	}}
	return f.Work(ctx, make(chan struct{}), WorkerConfig{Name: r.Name, Open: open(b), Logger: r.log()})
}

// isPoison reports whether a part is one of the 5 % that fail, and whether it ends its
// worker.
func isPoison(part int) (is, crash bool) { return part%20 == 7, part/20%2 == 0 }

// change logs a line for each part, at its last pair, and makes poison of some parts.
func (r role) change(pair engine.Pair) error {
	var at int
	fmt.Sscanf(pair.Document, "document %d", &at) //nolint:errcheck // the test's own format
	if is, crash := isPoison(at / r.Size); r.Poison && is {
		if crash {
			time.Sleep(100 * time.Millisecond) // in which the worker reads the next part
			os.Exit(7)
		}
		return errors.New("the device cannot compute this part")
	}
	if r.Log == "" || at%r.Size != r.Size-1 {
		return nil
	}
	file, err := os.OpenFile(r.Log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(file, "%d %s\n", at/r.Size, r.Name)
	return errors.Join(err, file.Close())
}

// submit submits a job, or takes it up again, and writes its scores.
func (r role) submit(ctx context.Context) error {
	f, err := Connect(ctx, ConnectConfig{URL: r.URL, Name: r.Name, Logger: r.log()})
	if err != nil {
		return err
	}
	defer f.Close()
	fmt.Println("clock", time.Now().Unix())
	job, err := r.job(ctx, f)
	if err != nil {
		return err
	}
	if job.State == Uploading {
		uploader, err := f.Uploader(ctx, job)
		if err != nil {
			return err
		}
		uploader.Full = func() { fmt.Println("full") }
		for p := range r.Parts {
			if err := uploader.Add(ctx, testChunks(p, r.Size), int64(p), int64(p+1)); err != nil {
				return err
			}
			fmt.Println("added", p)
		}
		if err := uploader.Seal(ctx); err != nil {
			return err
		}
	} else if err := f.Rebuild(ctx, job, false); err != nil {
		return err
	}
	fmt.Println("sealed")
	return r.receive(ctx, f, job)
}

// job returns the job of an earlier process, or a new one.
func (r role) job(ctx context.Context, f *Fleet) (*Job, error) {
	id, err := os.ReadFile(r.Output + ".job")
	if err == nil {
		return f.Job(ctx, string(id))
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	job := r.Job
	if err := f.Create(ctx, &job, testCanary()); err != nil {
		return nil, err
	}
	return &job, os.WriteFile(r.Output+".job", []byte(job.ID), 0o666)
}

// receive appends the scores of parts that the output lacks.
func (r role) receive(ctx context.Context, f *Fleet, job *Job) error {
	parts, err := f.Manifest(ctx, job)
	if err != nil {
		return err
	}
	output, err := os.OpenFile(r.Output, os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return err
	}
	defer output.Close() //nolint:errcheck // it is synced
	info, err := output.Stat()
	if err != nil {
		return err
	}
	from := info.Size() / int64(r.Size*lineBytes)
	if err := output.Truncate(from * int64(r.Size*lineBytes)); err != nil {
		return err
	}
	if _, err := output.Seek(0, io.SeekEnd); err != nil {
		return err
	}
	results, err := f.Results(ctx, job)
	if err != nil {
		return err
	}
	defer results.Close()
	for _, part := range parts[from:] {
		scores, err := results.Wait(ctx, part, testChunks(part.Index, r.Size))
		if err != nil {
			return err
		}
		if _, err := output.Write(scoreLines(scores)); err != nil {
			return err
		}
		if err := errors.Join(output.Sync(), results.Release(ctx, part)); err != nil {
			return err
		}
		fmt.Println("received", part.Index)
	}
	fmt.Println("complete")
	return nil
}

// lineBytes is the length of a line of scoreLines.
const lineBytes = 30

func scoreLines(scores []Score) []byte {
	var lines bytes.Buffer
	for _, s := range scores {
		fmt.Fprintf(&lines, "%14.8f %14.8f\n", s.Logit, s.Score)
	}
	return lines.Bytes()
}

func testChunks(part, size int) [][]engine.Pair {
	return [][]engine.Pair{testPairs(part*size, size/2), testPairs(part*size+size/2, size-size/2)}
}

func testCanary() Canary {
	canary := Canary{Pairs: testPairs(0, 3)}
	for _, pair := range canary.Pairs {
		canary.Scores = append(canary.Scores, fakeScore(pair))
	}
	return canary
}
