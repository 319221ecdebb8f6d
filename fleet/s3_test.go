package fleet

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	s3Access = "AKIDTEST"
	s3Secret = "secret-of-the-test"
)

// An s3 is a versitygw: an S3 server over a folder.
type s3 struct {
	t       testing.TB
	dir     string // its buckets
	address string
	command *exec.Cmd
}

// startS3 starts an S3 server with a bucket named pairs, and points the environment at it.
func startS3(t testing.TB) *s3 {
	t.Helper()
	s := &s3{t: t, dir: t.TempDir(), address: freeAddress(t)}
	if err := os.Mkdir(filepath.Join(s.dir, "pairs"), 0o777); err != nil {
		t.Fatal(err)
	}
	s.start()
	t.Cleanup(s.stop)
	clearS3(t)
	t.Setenv("AWS_ENDPOINT_URL", "http://"+s.address)
	t.Setenv("AWS_ACCESS_KEY_ID", s3Access)
	t.Setenv("AWS_SECRET_ACCESS_KEY", s3Secret)
	return s
}

// clearS3 removes what could lead to a store outside the test.
func clearS3(t testing.TB) {
	t.Helper()
	for _, name := range []string{"AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY",
		"AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE",
		"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(t.TempDir(), "credentials"))
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(t.TempDir(), "config"))
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
}

func (s *s3) start() {
	s.t.Helper()
	program, err := filepath.Abs(filepath.Join("..", "build", "tools", "versitygw"))
	if err == nil {
		_, err = os.Stat(program)
	}
	if err != nil {
		s.t.Fatalf("%v; python3 scripts/setup.py s3 builds it", err)
	}
	s.command = exec.Command(program, "--quiet", "--port", s.address, "--access", s3Access, "--secret", s3Secret,
		"posix", "--sidecar", s.t.TempDir(), s.dir)
	if err := s.command.Start(); err != nil {
		s.t.Fatal(err)
	}
	waitFor(s.t, "the S3 server", func() bool {
		conn, err := net.Dial("tcp", s.address)
		if err != nil {
			return false
		}
		return conn.Close() == nil
	})
}

func (s *s3) stop() {
	s.command.Process.Kill() //nolint:errcheck // it may have ended
	s.command.Wait()         //nolint:errcheck // reports the kill
}

// files lists the objects of the bucket as the server's folder has them.
func (s *s3) files() []string {
	s.t.Helper()
	var list []string
	root := filepath.Join(s.dir, "pairs")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		relative, err := filepath.Rel(root, path)
		list = append(list, filepath.ToSlash(relative))
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return list
}

// TestBucket runs two jobs under each of several prefixes, one after the other, and looks
// that the end of a job removes its objects and no others.
func TestBucket(t *testing.T) {
	server, gateway := startServer(t, ServerConfig{}), startS3(t)
	f := connect(t, server.URL())
	for _, name := range []string{"one", "two", "three"} {
		startWorker(t, server.URL(), WorkerConfig{Name: name})
	}
	for place, prefix := range map[string]string{"s3://pairs": "", "s3://pairs/": "", "s3://pairs/a/b/": "a/b/", "gs://pairs/c d/é": "c d/é/"} {
		one, two := submit(t, f, Job{Store: place}, 4, 10), submit(t, f, Job{Store: place}, 4, 10)
		one.check(t, f)
		two.check(t, f)
		data, err := openPlace(place, one.ID+"x")
		if err != nil {
			t.Fatal(err)
		}
		if err := data.put(testContext(t), "neighbour", []byte("stays")); err != nil {
			t.Fatal(err)
		}
		if files := gateway.files(); len(files) != 2*(2+2*4)+1 || !slices.Contains(files, prefix+"mlxrank-"+one.ID+"/pairs/000003") {
			t.Errorf("%s: the bucket has %q; expected pairs, results, manifest and canary of two jobs, and another object", place, files)
		}
		for _, job := range []*testJob{one, two} {
			if err := f.Finish(testContext(t), job.Job); err != nil {
				t.Fatal(err)
			}
			if job == one {
				two.check(t, f) // its objects are all there
				continue
			}
			checkEmpty(t, f, job)
		}
		if files := gateway.files(); !slices.Equal(files, []string{prefix + "mlxrank-" + one.ID + "x/neighbour"}) {
			t.Errorf("%s: %q are left, expected the other object", place, files)
		}
		if err := data.clear(testContext(t)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestBucketObjects has the operations of a store, also on objects that are missing.
func TestBucketObjects(t *testing.T) {
	startS3(t)
	for _, where := range []string{"s3://pairs/p", place(t)} {
		ctx := testContext(t)
		data, err := openPlace(where, "job")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := data.get(ctx, "results/1"); !errors.Is(err, errMissing) {
			t.Errorf("%s: get of a missing object: %v, expected %v", where, err, errMissing)
		}
		if found, err := data.has(ctx, "results/1"); found || err != nil {
			t.Errorf("%s: has of a missing object: %v, %v", where, found, err)
		}
		if err := data.remove(ctx, "results/1"); err != nil {
			t.Errorf("%s: remove of a missing object: %v", where, err)
		}
		for _, text := range []string{"first", "second"} {
			if err := data.put(ctx, "results/1", []byte(text)); err != nil {
				t.Fatal(err)
			}
			if found, err := data.get(ctx, "results/1"); string(found) != text || err != nil {
				t.Errorf("%s: get: %q, %v; expected %q", where, found, err, text)
			}
		}
		if found, err := data.has(ctx, "results/1"); !found || err != nil {
			t.Errorf("%s: has: %v, %v", where, found, err)
		}
		if err := data.clear(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := data.get(ctx, "results/1"); !errors.Is(err, errMissing) {
			t.Errorf("%s: get after clear: %v, expected %v", where, err, errMissing)
		}
	}
}

// TestBucketErrors has buckets and credentials that are wrong: the error says what to do.
func TestBucketErrors(t *testing.T) {
	startS3(t)
	for _, c := range []struct {
		name, place string
		env         map[string]string
		want        []string
	}{
		{"no bucket", "s3://nowhere/a", nil, []string{"bucket nowhere at 127.0.0.1:", "does not exist; create it"}},
		{"wrong secret", "s3://pairs", map[string]string{"AWS_SECRET_ACCESS_KEY": "wrong"}, []string{"rejects the credentials", "AWS_SECRET_ACCESS_KEY"}},
		{"wrong key", "gs://pairs", map[string]string{"AWS_ACCESS_KEY_ID": "wrong"}, []string{"rejects the credentials", "AWS_ACCESS_KEY_ID"}},
		{"no keys", "s3://pairs", map[string]string{"AWS_ACCESS_KEY_ID": ""}, []string{"no credentials", "AWS_ACCESS_KEY_ID", "AWS_PROFILE"}},
		{"no keys of Google", "gs://pairs", map[string]string{"AWS_ACCESS_KEY_ID": ""}, []string{"no credentials", "HMAC key of Google"}},
		{"nothing there", "s3://pairs", map[string]string{"AWS_ENDPOINT_URL": "http://" + freeAddress(t)}, []string{"does not answer", "AWS_ENDPOINT_URL", "refused"}},
		{"not an address", "s3://pairs", map[string]string{"AWS_ENDPOINT_URL": "127.0.0.1:9000"}, []string{"AWS_ENDPOINT_URL", "expected https://HOST"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for name, value := range c.env {
				t.Setenv(name, value)
			}
			start := time.Now()
			data, err := openPlace(c.place, "job")
			if err == nil {
				err = data.put(testContext(t), "canary", []byte("x"))
			}
			for _, want := range c.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error %v, expected %q in it", err, want)
				}
			}
			if err != nil && strings.Contains(err.Error(), s3Secret) {
				t.Errorf("the error has the secret: %v", err)
			}
			if took := time.Since(start); took > 30*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// TestCredentials finds keys in a file and in the metadata service of a machine, and
// gives up on a service that does not answer.
func TestCredentials(t *testing.T) {
	startS3(t)
	noKeys := func(t *testing.T) {
		t.Setenv("AWS_ACCESS_KEY_ID", "")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	}
	check := func(t *testing.T) error {
		data, err := openPlace("s3://pairs/x", "job")
		if err != nil {
			return err
		}
		return data.put(testContext(t), "canary", []byte("x"))
	}
	t.Run("file", func(t *testing.T) {
		noKeys(t)
		t.Setenv("AWS_PROFILE", "fleet")
		text := "[fleet]\naws_access_key_id = " + s3Access + "\naws_secret_access_key = " + s3Secret + "\n"
		if err := os.WriteFile(os.Getenv("AWS_SHARED_CREDENTIALS_FILE"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := check(t); err != nil {
			t.Error(err)
		}
	})
	metadata := func(t *testing.T, handler http.HandlerFunc) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		service := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
		go service.Serve(listener) //nolint:errcheck // ends with the test
		t.Cleanup(func() { service.Close() })
		noKeys(t)
		t.Setenv("AWS_EC2_METADATA_DISABLED", "")
		t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://"+listener.Addr().String())
	}
	t.Run("role", func(t *testing.T) {
		metadata(t, func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/latest/api/token", "/latest/meta-data/iam/security-credentials/":
				w.Write([]byte("role")) //nolint:errcheck // a test's server
			case "/latest/meta-data/iam/security-credentials/role":
				expires := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
				w.Write([]byte(`{"Code":"Success","AccessKeyId":"` + s3Access + `","SecretAccessKey":"` + s3Secret + `","Expiration":"` + expires + `"}`)) //nolint:errcheck // a test's server
			default:
				http.NotFound(w, r)
			}
		})
		if err := check(t); err != nil {
			t.Error(err)
		}
	})
	t.Run("silent", func(t *testing.T) {
		metadata(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		start := time.Now()
		if err := check(t); err == nil || !strings.Contains(err.Error(), "AWS_ACCESS_KEY_ID") {
			t.Errorf("error %v, expected the variables to set", err)
		}
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// TestBucketAway stops the S3 server in the middle of a job: nothing is scored twice
// because of it, and the job ends when the server is back.
func TestBucketAway(t *testing.T) {
	server, gateway := startServer(t, ServerConfig{}), startS3(t)
	f := connect(t, server.URL())
	job := submit(t, f, Job{Store: "s3://pairs"}, 12, 10)
	startWorker(t, server.URL(), WorkerConfig{Name: "worker", Open: open(fake{delay: 5 * time.Millisecond})})
	waitFor(t, "three commits", func() bool {
		commits, err := f.commitsOf(testContext(t), job.Job)
		return err == nil && len(commits) >= 3
	})
	gateway.stop()
	before, err := f.commitsOf(testContext(t), job.Job)
	if err != nil {
		t.Fatal(err)
	}
	back := time.AfterFunc(5*time.Second, gateway.start)
	defer back.Stop()
	job.check(t, f)
	after, err := f.commitsOf(testContext(t), job.Job)
	if err != nil {
		t.Fatal(err)
	}
	for part, commit := range before {
		if after[part].Object != commit.Object {
			t.Errorf("part %d was scored again", part)
		}
	}
}

// TestStoreOfWorker has a worker that cannot read the folder of a job: it is refused with
// the reason, and takes parts when the folder is there.
func TestStoreOfWorker(t *testing.T) {
	server := startServer(t, ServerConfig{})
	f := connect(t, server.URL())
	dir := t.TempDir()
	shared := filepath.Join(dir, "shared")
	const missing = "the folder must exist on the submitter and on every worker"
	for reason, instead := range map[string]func() error{
		missing: func() error { return nil },
		"the folder must be the same on the submitter and on every worker": func() error { return os.Mkdir(shared, 0o777) },
	} {
		if err := os.MkdirAll(shared, 0o777); err != nil {
			t.Fatal(err)
		}
		job := submit(t, f, Job{Store: "file://" + filepath.ToSlash(shared)}, 3, 10)
		away := filepath.Join(dir, "away")
		if err := errors.Join(os.Rename(shared, away), instead()); err != nil {
			t.Fatal(err)
		}
		stop := startWorker(t, server.URL(), WorkerConfig{Name: "worker"})
		waitFor(t, "the reason "+reason, func() bool {
			workers, err := f.Workers(testContext(t))
			return err == nil && len(workers) == 1 && strings.Contains(workers[0].Refused[job.ID], reason)
		})
		if err := errors.Join(os.RemoveAll(shared), os.Rename(away, shared)); err != nil {
			t.Fatal(err)
		}
		if reason == missing {
			job.check(t, f)
		}
		stop()
		if err := f.Finish(testContext(t), job.Job); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPlaces checks addresses of stores.
func TestPlaces(t *testing.T) {
	clearS3(t)
	t.Setenv("AWS_ACCESS_KEY_ID", s3Access)
	t.Setenv("AWS_SECRET_ACCESS_KEY", s3Secret)
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for place, want := range map[string]string{
		"file://" + dir:           "",
		"file://" + file:          "is not a folder",
		"file://" + dir + "/none": "no such file or directory; the folder must exist",
		"file://host/dir":         "three slashes",
		"file:relative":           "three slashes",
		"s3://":                   "names no bucket",
		"gs:///prefix":            "names no bucket",
		"http://host/bucket":      "is not supported; expected file:///DIR",
		"/just/a/folder":          "is not supported; expected file:///DIR",
		"s3://bucket/prefix%zz":   "invalid URL escape",
		"s3://bucket":             "",
		"gs://bucket/some/prefix": "",
	} {
		err := CheckPlace(place)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, expected %q", place, err, want)
		}
	}
	for place, want := range map[string]string{
		"s3://bucket":          "s3.amazonaws.com bucket mlxrank-job/",
		"s3://bucket/":         "s3.amazonaws.com bucket mlxrank-job/",
		"s3://bucket/a//b/":    "s3.amazonaws.com bucket a/b/mlxrank-job/",
		"gs://bucket/a/b":      "storage.googleapis.com bucket a/b/mlxrank-job/",
		"gs://my.bucket-1/a+b": "storage.googleapis.com my.bucket-1 a+b/mlxrank-job/",
	} {
		opened, err := openPlace(place, "job")
		if err != nil {
			t.Fatal(err)
		}
		b := opened.(bucket)
		if got := b.client.EndpointURL().Host + " " + b.name + " " + b.prefix; got != want {
			t.Errorf("%s: %s, expected %s", place, got, want)
		}
		if b.client.EndpointURL().Scheme != "https" {
			t.Errorf("%s: no TLS", place)
		}
	}
}

// TestBucketSilent has a server that accepts a request and does not answer: the call ends
// when its context does.
func TestBucketSilent(t *testing.T) {
	clearS3(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() }) //nolint:errcheck // the test is over
	t.Setenv("AWS_ENDPOINT_URL", "http://"+listener.Addr().String())
	t.Setenv("AWS_ACCESS_KEY_ID", s3Access)
	t.Setenv("AWS_SECRET_ACCESS_KEY", s3Secret)
	data, err := openPlace("s3://pairs", "job")
	if err != nil {
		t.Fatal(err)
	}
	limit := 500 * time.Millisecond
	if os.Getenv("MLXRANK_TEST_LONG") != "" {
		limit = time.Hour
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	start := time.Now()
	if _, err := data.get(ctx, "canary"); err == nil {
		t.Error("a silent server gave an object")
	}
	if took := time.Since(start); took > bucketTimeout+30*time.Second {
		t.Errorf("it took %v", took)
	}
}
