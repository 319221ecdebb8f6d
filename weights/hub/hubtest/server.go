// Package hubtest provides a hub for tests. It listens on 127.0.0.1, answers like
// huggingface.co, runs a content server on another port and counts the bytes sent.
package hubtest

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Signature is part of the URLs of the content server and must not appear in
// errors or logs.
const Signature = "c2lnbmF0dXJl"

// A Repo is a model on the hub.
type Repo struct {
	Commit    string
	Revisions []string // branches and tags at Commit, in addition to main
	Files     map[string][]byte
	Token     string // gives access to the repository, "" if it is public
	Gated     bool   // no account has access yet
}

// A Request is a request to the hub or the content server.
type Request struct {
	Content bool // to the content server
	Method  string
	Path    string
	Range   string
	Auth    string // the Authorization header
}

// A HubFunc may answer a request instead of the hub; it reports whether it did.
type HubFunc func(w http.ResponseWriter, r *http.Request) bool

// A ContentFunc may answer a request for a file; it reports whether it did.
type ContentFunc func(w http.ResponseWriter, r *http.Request, blob []byte) bool

// A Server is a hub. Its fields may be changed between requests.
type Server struct {
	URL     string
	Repos   map[string]*Repo  // by ORG/NAME
	Renamed map[string]string // from the old ORG/NAME to the new
	Bare    bool              // list files without hashes, like some mirrors

	contentURL string
	mu         sync.Mutex
	onHub      HubFunc
	onContent  ContentFunc
	requests   []Request
	sent       map[string]int64
}

// New starts a server that stops at the end of the test.
func New(t testing.TB) *Server {
	t.Helper()
	s := &Server{Repos: map[string]*Repo{}, Renamed: map[string]string{}, sent: map[string]int64{}}
	hub := httptest.NewServer(http.HandlerFunc(s.hub))
	content := httptest.NewServer(http.HandlerFunc(s.content))
	t.Cleanup(func() {
		for _, server := range []*httptest.Server{hub, content} {
			server.CloseClientConnections()
			server.Close()
		}
	})
	s.URL, s.contentURL = hub.URL, content.URL
	return s
}

// Add adds a public model. Its commit is a hash of its name and files.
func (s *Server) Add(id string, files map[string][]byte) *Repo {
	h := sha1.New()
	write(h, []byte(id))
	for _, name := range sortedKeys(files) {
		write(h, []byte(name))
		write(h, files[name])
	}
	repo := &Repo{Commit: hex.EncodeToString(h.Sum(nil)), Files: files}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Repos[id] = repo
	return repo
}

// ETag returns the name of a file's blob: the SHA-256 of weights, the git blob id
// of other files.
func ETag(name string, data []byte) string {
	if large(name) {
		sum := sha256.Sum256(data)
		return hex.EncodeToString(sum[:])
	}
	h := sha1.New()
	write(h, fmt.Appendf(nil, "blob %d\x00", len(data)))
	write(h, data)
	return hex.EncodeToString(h.Sum(nil))
}

func large(name string) bool {
	return slices.Contains([]string{".safetensors", ".bin"}, path.Ext(name))
}

// SetHub makes f answer requests to the hub first; nil removes it.
func (s *Server) SetHub(f HubFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onHub = f
}

// SetContent makes f answer requests for files first; nil removes it.
func (s *Server) SetContent(f ContentFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onContent = f
}

// Sent returns the number of bytes of a blob that were sent.
func (s *Server) Sent(etag string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent[etag]
}

// Requests returns the requests so far.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Forget resets the counts.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests, s.sent = nil, map[string]int64{}
}

// record counts a request and returns the function that may answer it first.
func (s *Server) record(r *http.Request, content bool) HubFunc {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, Request{content, r.Method, r.URL.Path, r.Header.Get("Range"), r.Header.Get("Authorization")})
	return s.onHub
}

// Cut sends the first n bytes of the requested part of a blob and closes the
// connection.
func Cut(w http.ResponseWriter, r *http.Request, blob []byte, n int) {
	http.ServeContent(&cutter{w, n}, r, "", time.Time{}, strings.NewReader(string(blob)))
}

type cutter struct {
	http.ResponseWriter
	left int
}

func (c *cutter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p[:min(len(p), c.left)])
	if c.left -= n; c.left == 0 {
		c.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	return n, err
}

// Fail answers with a status and the hub's headers for the reason.
func Fail(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("X-Error-Code", code)
	w.Header().Set("X-Error-Message", message)
	http.Error(w, message, status)
}

func (s *Server) hub(w http.ResponseWriter, r *http.Request) {
	if f := s.record(r, false); f != nil && f(w, r) {
		return
	}
	words := strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
	switch {
	case len(words) == 6 && words[0] == "api" && words[4] == "revision":
		s.describe(w, r, words[2]+"/"+words[3], unescape(words[5]))
	case len(words) == 6 && words[0] == "api" && words[4] == "tree":
		s.tree(w, r, words[2]+"/"+words[3], unescape(words[5]))
	case len(words) > 5 && words[0] == "api" && words[1] == "resolve-cache":
		s.small(w, r, words[3]+"/"+words[4], strings.Join(words[6:], "/"))
	case len(words) > 4 && words[2] == "resolve":
		s.resolve(w, r, words[0]+"/"+words[1], unescape(words[3]), strings.Join(words[4:], "/"))
	default:
		http.NotFound(w, r)
	}
}

func unescape(word string) string { return strings.ReplaceAll(word, "%2F", "/") }

// open returns the repository at a revision, or answers with an error.
func (s *Server) open(w http.ResponseWriter, r *http.Request, id, revision string) *Repo {
	if to, ok := s.Renamed[id]; ok {
		w.Header().Set("Location", strings.Replace(r.URL.EscapedPath(), id, to, 1)) // relative, as the hub's
		w.WriteHeader(http.StatusTemporaryRedirect)
		return nil
	}
	repo, auth := s.Repos[id], r.Header.Get("Authorization")
	switch {
	case repo != nil && repo.Gated:
		status := http.StatusForbidden
		if auth == "" {
			status = http.StatusUnauthorized
		}
		Fail(w, status, "GatedRepo", "Access to model "+id+" is restricted.")
	case repo != nil && (repo.Token == "" || auth == "Bearer "+repo.Token):
		if revision == "main" || revision == repo.Commit || slices.Contains(repo.Revisions, revision) {
			return repo
		}
		Fail(w, http.StatusNotFound, "RevisionNotFound", "Invalid rev id: "+revision)
	case auth == "":
		Fail(w, http.StatusUnauthorized, "RepoNotFound", "Invalid username or password.")
	default:
		Fail(w, http.StatusNotFound, "RepoNotFound", "Repository not found")
	}
	return nil
}

func (s *Server) describe(w http.ResponseWriter, r *http.Request, id, revision string) {
	repo := s.open(w, r, id, revision)
	if repo == nil {
		return
	}
	siblings := []any{}
	for _, name := range sortedKeys(repo.Files) {
		sibling := map[string]any{"rfilename": name}
		if data := repo.Files[name]; r.URL.Query().Get("blobs") == "true" && !s.Bare {
			sibling["size"], sibling["blobId"] = len(data), ETag("git", data)
			if large(name) {
				sibling["lfs"] = map[string]any{"sha256": ETag(name, data), "size": len(data), "pointerSize": 134}
			}
		}
		siblings = append(siblings, sibling)
	}
	respond(w, map[string]any{"_id": "621ffdc036468d709f174338", "id": id, "modelId": id, "private": false,
		"gated": false, "sha": repo.Commit, "tags": []string{"bert"}, "siblings": siblings})
}

// tree lists the files in the format that Python's snapshot_download reads.
func (s *Server) tree(w http.ResponseWriter, r *http.Request, id, revision string) {
	repo := s.open(w, r, id, revision)
	if repo == nil {
		return
	}
	entries := []any{}
	for _, name := range sortedKeys(repo.Files) {
		data := repo.Files[name]
		entry := map[string]any{"type": "file", "path": name, "size": len(data), "oid": ETag("git", data)}
		if large(name) {
			entry["lfs"] = map[string]any{"oid": ETag(name, data), "size": len(data), "pointerSize": 135}
		}
		entries = append(entries, entry)
	}
	respond(w, entries)
}

func respond(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// resolve redirects large files to the content server, with a signature and all
// their headers, and small files to another path of the hub.
func (s *Server) resolve(w http.ResponseWriter, r *http.Request, id, revision, name string) {
	repo := s.open(w, r, id, revision)
	if repo == nil {
		return
	}
	data, ok := repo.Files[name]
	if !ok {
		Fail(w, http.StatusNotFound, "EntryNotFound", "Entry not found")
		return
	}
	w.Header().Set("X-Repo-Commit", repo.Commit)
	if !large(name) {
		w.Header().Set("Location", "/api/resolve-cache/models/"+id+"/"+repo.Commit+"/"+name)
		w.WriteHeader(http.StatusTemporaryRedirect)
		return
	}
	etag := ETag(name, data)
	w.Header().Set("X-Linked-Etag", `"`+etag+`"`)
	w.Header().Set("X-Linked-Size", fmt.Sprint(len(data)))
	w.Header().Set("ETag", `"of-the-redirect"`)
	w.Header().Set("Location", s.contentURL+"/repos/"+etag+"?X-Amz-Signature="+Signature)
	w.WriteHeader(http.StatusFound)
}

func (s *Server) small(w http.ResponseWriter, r *http.Request, id, name string) {
	repo := s.open(w, r, id, "main")
	if repo == nil {
		return
	}
	data := repo.Files[name]
	w.Header().Set("X-Repo-Commit", repo.Commit)
	s.send(w, r, ETag(name, data), `W/"`+ETag(name, data)+`"`, data)
}

func (s *Server) content(w http.ResponseWriter, r *http.Request) {
	s.record(r, true)
	etag := path.Base(r.URL.Path)
	for _, repo := range s.Repos {
		for name, data := range repo.Files {
			if large(name) && ETag(name, data) == etag && r.URL.Query().Get("X-Amz-Signature") == Signature {
				s.send(w, r, etag, `"of-the-store"`, data)
				return
			}
		}
	}
	http.Error(w, "no such blob, or not signed", http.StatusForbidden)
}

// send answers with a blob or a part of it and counts the bytes.
func (s *Server) send(w http.ResponseWriter, r *http.Request, etag, header string, data []byte) {
	counted := &counter{w, func(n int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.sent[etag] += int64(n)
	}}
	s.mu.Lock()
	f := s.onContent
	s.mu.Unlock()
	if f != nil && r.Method == http.MethodGet && f(counted, r, data) {
		return
	}
	w.Header().Set("ETag", header)
	http.ServeContent(counted, r, "", time.Time{}, strings.NewReader(string(data)))
}

type counter struct {
	http.ResponseWriter
	count func(n int)
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.count(n)
	return n, err
}

func (c *counter) Flush() { c.ResponseWriter.(http.Flusher).Flush() }

// Dir returns the files of a directory for Add.
func Dir(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		files[filepath.ToSlash(name)], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// Use sets the environment to the server and an empty cache. It returns the
// directory of the cache.
func (s *Server) Use(t *testing.T) (cache string) {
	t.Helper()
	home := t.TempDir()
	for _, name := range []string{
		"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH",
		"HF_HUB_DISABLE_IMPLICIT_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE",
		"SENTENCE_TRANSFORMERS_HOME", "HF_HUB_DISABLE_SYMLINKS", "HF_HUB_DISABLE_SYMLINKS_WARNING",
	} {
		t.Setenv(name, "")
	}
	t.Setenv("HF_HOME", home)
	t.Setenv("HF_ENDPOINT", s.URL)
	return filepath.Join(home, "hub")
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func write(h hash.Hash, data []byte) {
	if _, err := h.Write(data); err != nil {
		panic(err) // a hash never fails
	}
}
