package hub

import (
	"fmt"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
)

// DefaultRevision is the branch of a reference without a revision.
const DefaultRevision = "main"

const (
	maxID       = 96 // characters of org/name, by the rule of the hub
	maxRevision = 200
)

// A Ref names a model of the hub and a revision: a branch, a tag or a commit.
type Ref struct {
	Model    string // org/name
	Revision string
}

func (r Ref) String() string {
	if r.Revision == DefaultRevision {
		return r.Model
	}
	return r.Model + "@" + r.Revision
}

var (
	idPattern       = regexp.MustCompile(`^[A-Za-z0-9_](?:[\w.-]*\w)?$`)
	revisionPattern = regexp.MustCompile(`^\w[\w.+-]*$`) // each of the parts between slashes
	commitPattern   = regexp.MustCompile(`^[0-9a-f]{40}$`)
)

// ParseRef parses org/name[@revision], or the URL of a model's page on the hub. It
// rejects a name without an organisation, which the hub's oldest models once had,
// because it could also be a directory.
func ParseRef(s string) (Ref, error) {
	if IsAddress(s) {
		return parseAddress(s)
	}
	return parseID(s)
}

func parseID(s string) (Ref, error) {
	model, revision, given := strings.Cut(s, "@")
	if !given {
		revision = DefaultRevision
	}
	org, name, ok := strings.Cut(model, "/")
	if !ok {
		return Ref{}, fmt.Errorf("%q is not the id of a model on the hub: expected ORG/NAME or ORG/NAME@REVISION", s)
	}
	for _, part := range []string{org, name} {
		if !idPattern.MatchString(part) || strings.Contains(part, "--") || strings.Contains(part, "..") {
			return Ref{}, fmt.Errorf("%q is not the id of a model on the hub: expected ORG/NAME; %q is not a valid name", s, part)
		}
	}
	if len(model) > maxID || strings.HasSuffix(name, ".git") {
		return Ref{}, fmt.Errorf("%q is not the id of a model on the hub: expected at most %d characters, without \".git\"", s, maxID)
	}
	if !validRevision(revision) {
		return Ref{}, fmt.Errorf("%q has no valid revision after the @: expected a branch, a tag or a commit", s)
	}
	return Ref{model, revision}, nil
}

// validRevision reports whether s can be a git ref and a path inside refs.
func validRevision(s string) bool {
	for part := range strings.SplitSeq(s, "/") {
		if !revisionPattern.MatchString(part) || strings.Contains(part, "..") {
			return false
		}
	}
	return len(s) <= maxRevision
}

// IsAddress reports whether s is a URL and not an id or a path: it starts with a
// scheme or with the host name of a hub.
func IsAddress(s string) bool {
	host, path, _ := strings.Cut(s, "/")
	return strings.Contains(s, "://") || slices.Contains(hubHosts(), host) && strings.Contains(path, "/")
}

// hubHosts returns the host names of the hub and the host of HF_ENDPOINT.
func hubHosts() []string {
	hosts := []string{"huggingface.co", "www.huggingface.co", "hf.co"}
	if u, err := parseEndpoint(os.Getenv("HF_ENDPOINT")); err == nil {
		hosts = append(hosts, u.Host)
	}
	return hosts
}

// parseAddress parses the URL of a model, of its files at a revision, or of one
// file.
func parseAddress(s string) (Ref, error) {
	bad := func(format string, args ...any) (Ref, error) {
		return Ref{}, fmt.Errorf("%q is not the URL of a model on the hub: expected https://huggingface.co/ORG/NAME; "+format, append([]any{s}, args...)...)
	}
	text := s
	if rest, ok := strings.CutPrefix(s, "hf://"); ok {
		text = "https://huggingface.co/" + strings.Replace(rest, "@", "/tree/", 1)
	} else if !strings.Contains(s, "://") {
		text = "https://" + s
	}
	u, err := url.Parse(text)
	if err != nil || u.User != nil {
		return Ref{}, fmt.Errorf("this is not the URL of a model on the hub: expected https://huggingface.co/ORG/NAME") // not quoted: it may contain a password
	}
	if (u.Scheme != "https" && u.Scheme != "http") || !slices.Contains(hubHosts(), u.Host) {
		return bad("%s is not a hub; set HF_ENDPOINT to use another hub", u.Scheme+"://"+u.Host)
	}
	words := strings.Split(strings.Trim(u.EscapedPath(), "/"), "/")
	for i, word := range words {
		if words[i], err = url.PathUnescape(word); err != nil {
			return bad("%w", err)
		}
	}
	switch {
	case slices.Contains([]string{"datasets", "spaces", "collections", "papers", "docs", "blog", "models"}, words[0]):
		return bad("found a page of %s", words[0])
	case len(words) < 2:
		return bad("found no ORG/NAME")
	}
	id := words[0] + "/" + strings.TrimSuffix(words[1], ".git")
	if len(words) > 3 && slices.Contains([]string{"tree", "blob", "resolve", "raw", "commit", "commits"}, words[2]) {
		id += "@" + words[3]
		if words[3] == "refs" && len(words) > 5 { // refs/pr/1
			id += "/" + words[4] + "/" + words[5]
		}
	}
	return parseID(id)
}
