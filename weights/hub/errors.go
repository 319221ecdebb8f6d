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

// advice lists the ways to use a model without the hub.
const advice = "use --model builtin, which needs no hub, or --model DIR with the directory of a model"

// ErrNoModel reports that the hub has no such model, or hides it from this user.
var ErrNoModel = errors.New("there is no such model on the hub, or it is private")

// A statusError is a response of the hub with an error status.
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

// statusError returns the error in a response with status 400 or above.
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

// clean prepares a text of the server for an error: it shortens the text and
// removes unprintable characters and the token.
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

// A cleaned error replaces the text of an error.
type cleaned struct {
	text string
	err  error
}

func (e *cleaned) Error() string { return e.text }
func (e *cleaned) Unwrap() error { return e.err }

// explain adds to the error of a failed download what to do.
func (c *Client) explain(ref Ref, err error) error {
	var status *statusError
	switch {
	case !errors.As(err, &status) && c.reached.Load():
		return err
	case status == nil:
		return &transient{err: fmt.Errorf("cannot reach the hub at %s: %w; %s", c.endpoint.Redacted(), err, advice)}
	}
	model := c.endpoint.Redacted() + "/" + ref.Model
	var hint string
	switch {
	case status.host != c.endpoint.Host:
		return fmt.Errorf("%w; this is a content server of the hub, not the hub itself: try again later", err)
	case status.code == "GatedRepo":
		hint = "access needs approval: accept the conditions at " + model + " and " + c.tokenHint()
	case status.code == "RevisionNotFound":
		hint = fmt.Sprintf("the model has no revision %q", ref.Revision)
	case status.code == "EntryNotFound":
		hint = "the file no longer exists: pull the model again"
	case status.status == http.StatusUnauthorized && c.token != "" && status.code != "RepoNotFound":
		hint = "the token from " + c.tokenFrom + " is not accepted: create another, or unset it"
	case status.status == http.StatusUnauthorized, status.status == http.StatusNotFound:
		return fmt.Errorf("%w: check the spelling, or %s (%w)", ErrNoModel, c.tokenHint(), err)
	case status.status == http.StatusForbidden:
		hint = "access to the model is not allowed: " + c.tokenHint()
	case status.status == http.StatusTooManyRequests:
		hint = "too many requests: wait some minutes, or " + c.tokenHint() + ", which raises the limit"
	default:
		return fmt.Errorf("%w; %s", err, advice)
	}
	return fmt.Errorf("%s (%w)", hint, err)
}

// tokenHint describes how to set a token, or which account to use.
func (c *Client) tokenHint() string {
	if c.token != "" {
		return "use the token of an account with access (the current token is from " + c.tokenFrom + ")"
	}
	if name := "HF_HUB_DISABLE_IMPLICIT_TOKEN"; isTrue(os.Getenv(name)) {
		return "unset " + name + ", which disables tokens, and set HF_TOKEN to your token"
	}
	return "set HF_TOKEN to your token"
}

// diskError adds to the error of a full disk what to do.
func diskError(dir string, err error) error {
	for _, full := range []error{unix.ENOSPC, unix.EDQUOT, unix.EFBIG} {
		if errors.Is(err, full) {
			return fmt.Errorf("%w: the disk of %s is full: free some space and run the command again, which continues the download, "+
				"or set %s to a directory on another disk", err, dir, cmp.Or(cacheVariable(), "HF_HUB_CACHE"))
		}
	}
	return err
}

// checkSpace returns an error if the disk has less than need bytes free.
func checkSpace(dir string, need int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return os.NewSyscallError("statfs "+dir, err)
	}
	if free := st.Bavail * uint64(st.Bsize); need > 0 && uint64(need) > free {
		return fmt.Errorf("%w: %d bytes are needed, %d are free", unix.ENOSPC, need, free)
	}
	return nil
}
