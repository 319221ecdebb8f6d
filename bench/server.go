package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/bench/results"
)

// APIs lists the formats of rerank servers, the default first.
var APIs = []string{"tei", "jina", "cohere"}

const (
	answerTimeout = 2 * time.Minute
	infoTimeout   = 5 * time.Second
	maxAnswer     = 64 << 20 // bytes
	maxInfo       = 1 << 20
)

// A Server is a running rerank server, measured as its clients see it.
type Server struct {
	url    *url.URL
	api    string
	key    string // "" for none
	client *http.Client
}

// NewServer describes the server at an address such as http://127.0.0.1:8437. api
// is its format, one of APIs. key is sent as a bearer token; "" sends none.
// NewServer itself sends nothing.
func NewServer(address, api, key string) (*Server, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("the server's address is no URL; expected one such as http://127.0.0.1:8437") // err may contain a password
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("server's address %s: expected a URL such as http://127.0.0.1:8437, without query and fragment", u.Redacted())
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = 0, 1<<16 // each sender keeps its connection
	transport.DisableCompression = true
	client := &http.Client{
		Transport: transport, Timeout: answerTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // a redirect would measure another server
	}
	return &Server{url: u, api: api, key: key, client: client}, nil
}

// names reports whether a request names the model.
func (s *Server) names() bool { return s.api != "tei" }

// route returns the path of rerank requests.
func (s *Server) route() string {
	return map[string]string{"tei": "/rerank", "jina": "/v1/rerank", "cohere": "/v2/rerank"}[s.api]
}

// An answer is a complete response.
type answer struct {
	code   int
	status string // code and text
	header http.Header
	data   []byte
}

// clipped returns the first characters of the answer, at most longest.
func (a answer) clipped(longest int) string {
	return clip(string(a.data[:min(len(a.data), 4*longest)]), longest)
}

// call sends a request and reads an answer of at most most bytes.
func (s *Server) call(ctx context.Context, method, path string, body io.Reader, most int64) (a answer, err error) {
	request, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(s.url.String(), "/")+path, body)
	if err != nil {
		return a, err
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "mlxrank-bench")
	request.Header.Set("Cache-Control", "no-store") // a cached score measures nothing
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if s.key != "" {
		request.Header.Set("Authorization", "Bearer "+s.key)
	}
	response, err := s.client.Do(request)
	if err != nil {
		var of *url.Error
		if errors.As(err, &of) {
			err = of.Err // without the address, which may contain a user name
		}
		return a, err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	data, err := io.ReadAll(io.LimitReader(response.Body, most+1))
	if err == nil && int64(len(data)) > most {
		err = fmt.Errorf("the answer is longer than the limit of %d bytes", most)
	}
	return answer{response.StatusCode, response.Status, response.Header, data}, err
}

// describe asks a server for /info, which is optional.
func (s *Server) describe(model string, log zerolog.Logger) *results.Server {
	shown := *s.url
	shown.User = nil
	out := &results.Server{URL: shown.String(), API: s.api, Model: model}
	ctx, cancel := context.WithTimeout(context.Background(), infoTimeout)
	defer cancel()
	a, err := s.call(ctx, http.MethodGet, "/info", nil, maxInfo)
	if err == nil && a.code != http.StatusOK {
		err = fmt.Errorf("status %d", a.code)
	}
	var fields map[string]any
	if err == nil {
		err = json.Unmarshal(a.data, &fields)
	}
	if err != nil {
		log.Debug().Err(err).Msg("the server's /info")
		return out
	}
	out.Info = scalars(fields)
	return out
}

// scalars returns the fields that fit into a table.
func scalars(fields map[string]any) map[string]string {
	const most, longest = 40, 200
	out := map[string]string{}
	for name, value := range fields {
		switch value.(type) {
		case string, bool, float64:
			if text := plainNumber(value); len(out) < most && len(name) <= longest && text != "" {
				out[name] = clip(text, longest)
			}
		}
	}
	return out
}

// plainNumber formats 16777216 without an exponent.
func plainNumber(value any) string {
	if f, ok := value.(float64); ok && f == float64(int64(f)) {
		return fmt.Sprint(int64(f))
	}
	return fmt.Sprint(value)
}

// clip returns text as one line of at most longest characters.
func clip(text string, longest int) string {
	runes := []rune(strings.Join(strings.Fields(strings.ToValidUTF8(text, "?")), " "))
	if len(runes) > longest {
		return string(runes[:longest]) + "..."
	}
	return string(runes)
}
