package hub

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"unicode"

	"golang.org/x/sys/unix"
)

// advice names the ways to a model that need no hub.
const advice = "use --model builtin, which needs no hub, or --model DIR with a directory that holds a model"

// ErrNoModel says that the hub shows no such model to this user.
var ErrNoModel = errors.New("there is no such model on the hub, or it is private")

// A statusError is an answer of the hub that refuses.
type statusError struct {
	status  int
	host    string
	code    string // X-Error-Code: RepoNotFound, RevisionNotFound, EntryNotFound, GatedRepo
	message string // X-Error-Message
}

func (e *statusError) Error() string {
	text := fmt.Sprintf("%s answers %d %s", e.host, e.status, http.StatusText(e.status))
	if e.message != "" {
		text += ": " + e.message
	}
	return text
}

// statusError reads an answer of status 400 or above.
func (c *Client) statusError(response *http.Response) error {
	e := &statusError{
		status: response.StatusCode, host: response.Request.URL.Host,
		code: response.Header.Get("X-Error-Code"), message: c.clean(response.Header.Get("X-Error-Message")),
	}
	switch {
	case e.status == http.StatusTooManyRequests, e.status == http.StatusRequestTimeout, e.status >= 500:
		return &transient{e, retryAfter(response.Header)}
	}
	return e
}

// clean makes a text of the server's fit for an error: short, printable, and
// without the token, should the server repeat it.
func (c *Client) clean(s string) string {
	if c.token != "" {
		s = strings.ReplaceAll(s, c.token, "(token)")
	}
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	if runes := []rune(s); len(runes) > 200 {
		s = string(runes[:200]) + "…"
	}
	return s
}

// A cleaned error shows a text that was made fit for it.
type cleaned struct {
	text string
	err  error
}

func (e *cleaned) Error() string { return e.text }
func (e *cleaned) Unwrap() error { return e.err }

// explain says what to do about a failed request for a model.
func (c *Client) explain(ref Ref, err error) error {
	var status *statusError
	switch {
	case !errors.As(err, &status) && c.reached.Load():
		return err
	case status == nil:
		return fmt.Errorf("cannot reach the hub at %s: %w; %s", c.endpoint.Redacted(), err, advice)
	}
	model := c.endpoint.Redacted() + "/" + ref.Model
	var hint string
	switch {
	case status.host != c.endpoint.Host:
		return fmt.Errorf("%w; that is not the hub but a server it sends to: try again later", err)
	case status.code == "GatedRepo":
		hint = "access is granted one by one: accept the conditions at " + model + " and " + c.tokenHint()
	case status.code == "RevisionNotFound":
		hint = fmt.Sprintf("the model has no revision %q", ref.Revision)
	case status.code == "EntryNotFound":
		hint = "the file is gone: pull the model again"
	case status.status == http.StatusUnauthorized && c.token != "" && status.code != "RepoNotFound":
		hint = "the token from " + c.tokenFrom + " is not accepted: make another, or unset it"
	case status.status == http.StatusUnauthorized, status.status == http.StatusNotFound:
		return fmt.Errorf("%w: check the spelling, or %s (%w)", ErrNoModel, c.tokenHint(), err)
	case status.status == http.StatusForbidden:
		hint = "access to it is not allowed: " + c.tokenHint()
	case status.status == http.StatusTooManyRequests:
		hint = "too many requests: wait some minutes, or " + c.tokenHint() + ", with which more are allowed"
	default:
		return fmt.Errorf("%w; %s", err, advice)
	}
	return fmt.Errorf("%s (%w)", hint, err)
}

// tokenHint says how to give a token, or whose account is meant.
func (c *Client) tokenHint() string {
	if c.token != "" {
		return "use the token of an account that may (now that from " + c.tokenFrom + ")"
	}
	if name := "HF_HUB_DISABLE_IMPLICIT_TOKEN"; isTrue(os.Getenv(name)) {
		return "unset " + name + ", by which no token is sent, and set HF_TOKEN to a token of yours"
	}
	return "set HF_TOKEN to a token of yours"
}

// diskError adds to err what to do about a full disk, if that is what it says.
func diskError(dir string, err error) error {
	for _, full := range []error{unix.ENOSPC, unix.EDQUOT, unix.EFBIG} {
		if errors.Is(err, full) {
			return fmt.Errorf("%w: the disk that holds %s is full; free some space and run it again, which goes on where it stopped, "+
				"or set %s to a directory on another disk", err, dir, cmp.Or(cacheVariable(), "HF_HUB_CACHE"))
		}
	}
	return err
}

// checkSpace refuses a download that cannot fit.
func checkSpace(dir string, need int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return os.NewSyscallError("statfs "+dir, err)
	}
	if free := st.Bavail * uint64(st.Bsize); need > 0 && uint64(need) > free {
		return fmt.Errorf("%w: %d bytes are needed and %d are free", unix.ENOSPC, need, free)
	}
	return nil
}
