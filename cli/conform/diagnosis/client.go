package diagnosis

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"
)

const (
	maxAnswer    = 16 << 20 // bytes
	maxTries     = 5        // of a request that the server refuses for now
	longestPause = 30 * time.Second
	infoTimeout  = 5 * time.Second
)

// A Server is where a rerank server is and how it is called.
type Server struct {
	URL     string
	API     string        // one of APIs
	Model   string        // name that requests have; "" asks the server, or else is Fallback
	Key     string        // bearer token, "" for none
	Timeout time.Duration // of a request
	// Fallback is the name of the model that requests have if nothing else names it.
	Fallback string
}

// A client sends requests in the format that was found.
type client struct {
	base  *url.URL
	key   string
	model string
	http  *http.Client
	api   api
	path  string
}

// dial checks the address and finds the format with the first pairs.
func dial(ctx context.Context, s Server, sample []Pair) (*client, error) {
	u, err := url.Parse(s.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("the server's address is not a URL such as http://127.0.0.1:8080, without query and fragment")
	}
	formats := find(s.API)
	if formats == nil {
		return nil, fmt.Errorf("API %q is not one of %s", s.API, strings.Join(APIs, ", "))
	}
	c := &client{base: u, key: s.Key, http: &http.Client{
		Timeout:       s.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // would compare another server
	}}
	if c.model = s.Model; c.model == "" {
		c.model = c.askModel(ctx, s.Fallback)
	}
	return c, c.choose(ctx, formats, sample)
}

// choose finds the first format and path that the server answers.
func (c *client) choose(ctx context.Context, formats []api, sample []Pair) error {
	var tried []error
	what := "API" // no path has one
	for _, a := range formats {
		paths := a.paths
		if name := path.Base(c.base.Path); name == "rerank" || name == "reranking" || name == "score" {
			paths = []string{""}
		}
		for _, p := range paths {
			c.api, c.path = a, p
			_, err := c.send(ctx, sample)
			if err == nil {
				return nil
			}
			var status *statusError
			if ctx.Err() != nil || !errors.As(err, &status) && !errors.Is(err, errShape) {
				return err
			}
			if status != nil && (status.code == http.StatusUnauthorized || status.code == http.StatusForbidden) {
				return fmt.Errorf("%w; give the server's key with --api-key-file", err)
			}
			if status == nil {
				what = "format"
			}
			tried = append(tried, fmt.Errorf("%s at %s: %w", a.name, cmpPath(p, c.base), err))
		}
	}
	return fmt.Errorf("the server at %s answers in no known %s: %w", c.base.Redacted(), what, errors.Join(tried...))
}

func cmpPath(p string, base *url.URL) string {
	return strings.TrimRight(base.Path, "/") + p
}

// askModel returns the name of the only model that the server lists, or else.
func (c *client) askModel(ctx context.Context, fallback string) string {
	ctx, cancel := context.WithTimeout(ctx, infoTimeout)
	defer cancel()
	for _, p := range []string{"/v1/models", "/models"} {
		data, err := c.call(ctx, http.MethodGet, p, nil)
		var list struct {
			Data []struct {
				ID string `json:"id"`
			} `json:"data"`
		}
		if err == nil && json.Unmarshal(data, &list) == nil && len(list.Data) == 1 && list.Data[0].ID != "" {
			return list.Data[0].ID
		}
	}
	return fallback
}

// askVersion returns what the server's /info or /version says about its program.
func (c *client) askVersion(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, infoTimeout)
	defer cancel()
	for _, p := range []string{"/info", "/version"} {
		data, err := c.call(ctx, http.MethodGet, p, nil)
		var info struct {
			Version string `json:"version"`
			Type    string `json:"model_dtype"`
		}
		if err == nil && json.Unmarshal(data, &info) == nil && info.Version != "" && len(info.Version) < 100 {
			return strings.TrimSpace("version " + info.Version + " " + info.Type)
		}
	}
	return ""
}

// A statusError is an answer with another status than 200.
type statusError struct {
	code  int
	text  string
	after time.Duration
}

func (e *statusError) Error() string { return e.text }

// isPassing reports whether the same request may be answered later.
func (e *statusError) isPassing() bool {
	return e.code == http.StatusTooManyRequests || e.code == http.StatusServiceUnavailable
}

// call sends a request once and returns the body of an answer with status 200.
func (c *client) call(ctx context.Context, method, p string, body []byte) (data []byte, err error) {
	u := *c.base
	u.Path = cmpPath(p, c.base)
	request, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "mlxrank-conform")
	request.Header.Set("Cache-Control", "no-store") // the server must compute
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if c.key != "" {
		request.Header.Set("Authorization", "Bearer "+c.key)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("the server at %s cannot be used: %w", u.Redacted(), c.explain(err))
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	data, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("the answer of %s broke off after %d bytes: %w", u.Redacted(), len(data), c.explain(err))
	case len(data) > maxAnswer:
		return nil, fmt.Errorf("the answer of %s is longer than %d bytes", u.Redacted(), maxAnswer)
	case response.StatusCode != http.StatusOK:
		return nil, &statusError{response.StatusCode, statusText(response, data), retryAfter(response.Header.Get("Retry-After"))}
	}
	return data, nil
}

// statusText returns what an answer with another status than 200 says.
func statusText(response *http.Response, data []byte) string {
	text := "status " + response.Status
	if to := response.Header.Get("Location"); to != "" {
		return text + ", a redirect to " + clip(to, 200) + ", which is not followed; give the final address with --url"
	}
	if body := clip(string(data), 200); body != "" {
		text += ": " + body
	}
	return text
}

// A failure is a network error in plain words.
type failure struct {
	text string
	err  error
}

func (f *failure) Error() string { return f.text }

func (f *failure) Unwrap() error { return f.err }

// explain returns a network error in plain words, without the address, which may
// contain a password.
func (c *client) explain(err error) error {
	var of *url.Error
	if errors.As(err, &of) {
		err = of.Err
	}
	var slow interface{ Timeout() bool }
	switch {
	case errors.As(err, &slow) && slow.Timeout():
		return &failure{fmt.Sprintf("there was no complete answer within %v; --timeout sets more", c.http.Timeout), err}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &failure{"the server closed the connection too early", err}
	}
	return err
}

// retryAfter parses the header: seconds or a date.
func retryAfter(value string) time.Duration {
	var d time.Duration
	if seconds, err := strconv.ParseFloat(value, 64); err == nil && seconds > 0 {
		d = time.Duration(min(seconds, longestPause.Seconds()) * float64(time.Second))
	} else if at, err := http.ParseTime(value); err == nil {
		d = time.Until(at)
	}
	return min(max(d, 0), longestPause)
}

// clip returns text as one line of at most longest characters.
func clip(text string, longest int) string {
	runes := []rune(strings.Join(strings.Fields(strings.ToValidUTF8(text, "?")), " "))
	if len(runes) > longest {
		return string(runes[:longest]) + "..."
	}
	return string(runes)
}

// send sends pairs of one query, and again if the server refuses them for now.
func (c *client) send(ctx context.Context, pairs []Pair) ([]result, error) {
	documents := make([]string, len(pairs))
	for i, p := range pairs {
		documents[i] = p.Document
	}
	body, err := json.Marshal(c.api.body(c.model, pairs[0].Query, documents))
	if err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		data, err := c.call(ctx, http.MethodPost, c.path, body)
		var status *statusError
		if errors.As(err, &status) && status.isPassing() && try < maxTries {
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(max(status.after, time.Duration(try)*500*time.Millisecond)):
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		return c.api.parse(data, len(pairs))
	}
}

// An answer holds what a server said about the pairs of a group.
type answer struct {
	scores  []float64 // NaN where there is none
	refused []string  // why a pair has no score; "" if it has one
	noScore []bool    // the server answered, but no score
	ranked  []int     // documents in the order of the results; nil if they were sent one by one
	first   int       // index that the server gives to the first document
	defect  Fault     // what is wrong with the results themselves, if anything is
}

func newAnswer(n int) answer {
	return answer{scores: make([]float64, n), refused: make([]string, n), noScore: make([]bool, n)}
}

// ask sends a group. If the server refuses it or answers some documents only, each pair
// is sent alone.
func (c *client) ask(ctx context.Context, group []Pair) (answer, error) {
	a := newAnswer(len(group))
	results, err := c.send(ctx, group)
	var status *statusError
	if errors.As(err, &status) && len(group) > 1 {
		return c.askEach(ctx, group)
	}
	if status != nil {
		a.scores[0], a.refused[0] = math.NaN(), status.text
		return a, nil
	}
	if err != nil {
		return a, err
	}
	if text := wrongIndexes(results, len(group)); text != "" {
		if len(group) > 1 {
			a, err = c.askEach(ctx, group)
		} else {
			a.scores[0], a.refused[0], a.noScore[0] = math.NaN(), text, true
		}
		a.defect = wrongIndex.found("%s", text)
		return a, err
	}
	if len(results) < len(group) && len(group) > 1 {
		return c.askMissing(ctx, group, results)
	}
	for i := range a.scores {
		a.scores[i], a.refused[i], a.noScore[i] = math.NaN(), "the answer has no result for it", true
	}
	for _, r := range results {
		if r.index == len(group) {
			a.first = 1
		}
	}
	for _, r := range results {
		i := r.index - a.first
		a.ranked = append(a.ranked, i)
		a.scores[i], a.refused[i], a.noScore[i] = r.score, r.lacks, math.IsNaN(r.score)
	}
	return a, nil
}

// askEach sends each pair of a group alone.
func (c *client) askEach(ctx context.Context, group []Pair) (answer, error) {
	a := newAnswer(len(group))
	for i := range group {
		one, err := c.ask(ctx, group[i:i+1])
		if err != nil {
			return a, err
		}
		a.scores[i], a.refused[i], a.noScore[i], a.first = one.scores[0], one.refused[0], one.noScore[0], max(a.first, one.first)
		if one.defect.Name != "" {
			a.defect = one.defect
		}
	}
	return a, nil
}

// askMissing sends each pair of a group alone, because an answer lacks some. That is
// wrong if the server has scores for those.
func (c *client) askMissing(ctx context.Context, group []Pair, results []result) (answer, error) {
	a, err := c.askEach(ctx, group)
	scored := 0
	for _, x := range a.scores {
		if !math.IsNaN(x) {
			scored++
		}
	}
	if len(results) < scored {
		a.defect = resultsMissing.found("the server returns only %d results for %d documents%s", len(results), len(group), c.api.allText)
	}
	return a, err
}
