package hub

import (
	"fmt"
	"regexp"
	"strings"
)

// DefaultRevision is the branch taken when a reference names none.
const DefaultRevision = "main"

const (
	maxID       = 96 // characters of org/name, by the hub's own rule
	maxRevision = 200
)

// A Ref names a model of the hub at a revision: a branch, a tag or a commit.
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

// ParseRef reads org/name[@revision]. A name without an organisation, as the
// hub's oldest models once had, is refused: nothing tells it from a directory.
func ParseRef(s string) (Ref, error) {
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
			return Ref{}, fmt.Errorf("%q is not the id of a model on the hub: expected ORG/NAME, and %q is no name there", s, part)
		}
	}
	if len(model) > maxID || strings.HasSuffix(name, ".git") {
		return Ref{}, fmt.Errorf("%q is not the id of a model on the hub: expected at most %d characters, without \".git\"", s, maxID)
	}
	if !validRevision(revision) {
		return Ref{}, fmt.Errorf("%q does not name a revision after the @: expected a branch, a tag or a commit", s)
	}
	return Ref{model, revision}, nil
}

// validRevision accepts what can be a git ref and a path inside refs.
func validRevision(s string) bool {
	for part := range strings.SplitSeq(s, "/") {
		if !revisionPattern.MatchString(part) || strings.Contains(part, "..") {
			return false
		}
	}
	return len(s) <= maxRevision
}
