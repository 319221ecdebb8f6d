package hub

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

const defaultEndpoint = "https://huggingface.co"

// A Client works on one cache and talks to one hub.
type Client struct {
	cache    string
	endpoint *url.URL
	offline  string // the variable that forbids connections, "" if none does
	limits   limits

	token     string // sent to endpoint and nowhere else, shown nowhere
	tokenFrom string // what it was read from

	connecting sync.Mutex
	reached    atomic.Bool   // the hub has answered
	slots      chan struct{} // held while bytes of a file are fetched
	metadata   *http.Client
	content    *http.Client
}

// FromEnvironment returns the client that the variables of Python's
// huggingface_hub describe: HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE, HF_ENDPOINT,
// HF_HUB_DISABLE_SYMLINKS, sentence-transformers' SENTENCE_TRANSFORMERS_HOME,
// and, read when the hub is asked for the first time, HF_TOKEN, HF_TOKEN_PATH
// and HF_HUB_DISABLE_IMPLICIT_TOKEN.
func FromEnvironment() (*Client, error) {
	cache, err := cacheFromEnvironment()
	if err != nil {
		return nil, err
	}
	endpoint, err := parseEndpoint(or(os.Getenv("HF_ENDPOINT"), defaultEndpoint))
	if err != nil {
		return nil, err
	}
	return &Client{cache: cache, endpoint: endpoint, limits: defaultLimits, offline: Offline()}, nil
}

// Offline names the variable that forbids connections, "" if none does.
func Offline() string {
	for _, name := range []string{"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"} {
		if isTrue(os.Getenv(name)) {
			return name
		}
	}
	return ""
}

// Cache is the directory that the models are kept in.
func (c *Client) Cache() string { return c.cache }

func parseEndpoint(s string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimRight(s, "/"))
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		// Without the value, which may hold a password.
		return nil, errors.New("HF_ENDPOINT is not the address of a hub: expected one like " + defaultEndpoint)
	}
	return u, nil
}

// cacheVariables name the cache, the first that is set counts. Python's
// sentence-transformers hands its own to huggingface_hub, in the place of the
// others.
var cacheVariables = []string{"SENTENCE_TRANSFORMERS_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"}

func cacheFromEnvironment() (string, error) {
	if name := cacheVariable(); name != "" {
		return expand(os.Getenv(name))
	}
	home, err := homeFromEnvironment()
	return filepath.Join(home, "hub"), err
}

// cacheVariable is that of cacheVariables which counts, "" if none is set.
func cacheVariable() string {
	for _, name := range cacheVariables {
		if os.Getenv(name) != "" {
			return name
		}
	}
	return ""
}

// homeFromEnvironment is the directory of everything that belongs to Hugging
// Face.
func homeFromEnvironment() (string, error) {
	if dir := os.Getenv("HF_HOME"); dir != "" {
		return expand(dir)
	}
	return expand(filepath.Join(or(os.Getenv("XDG_CACHE_HOME"), "~/.cache"), "huggingface"))
}

// expand resolves a leading ~ and variables, as Python does; a variable that is
// not set stays as written. The result is absolute.
func expand(path string) (string, error) {
	if path == "~" || strings.HasPrefix(path, "~/") {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("cache of the hub at %s: %w (set HF_HOME)", path, err)
		}
		path = home + path[1:]
	}
	return filepath.Abs(os.Expand(path, func(name string) string {
		if value, ok := os.LookupEnv(name); ok {
			return value
		}
		return "$" + name
	}))
}

// readToken finds the token of the user: HF_TOKEN, or the file that `hf auth
// login` writes. It returns "" if there is none.
func readToken() (token, from string, err error) {
	if isTrue(os.Getenv("HF_HUB_DISABLE_IMPLICIT_TOKEN")) {
		return "", "", nil
	}
	for _, name := range []string{"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"} {
		if token := cleanToken(os.Getenv(name)); token != "" {
			return token, name, checkToken(token, name)
		}
	}
	path := os.Getenv("HF_TOKEN_PATH")
	if path == "" {
		home, err := homeFromEnvironment()
		if err != nil {
			return "", "", err
		}
		path = filepath.Join(home, "token")
	}
	if path, err = expand(path); err != nil {
		return "", "", err
	}
	data, err := readBounded(path, maxToken)
	if errors.Is(err, fs.ErrNotExist) {
		return "", "", nil
	}
	if err != nil {
		return "", "", fmt.Errorf("token of the hub: %w", err)
	}
	token = cleanToken(string(data))
	return token, path, checkToken(token, path)
}

const maxToken = 4 << 10 // bytes

func cleanToken(s string) string {
	return strings.TrimSpace(strings.NewReplacer("\r", "", "\n", "").Replace(s))
}

// checkToken refuses what could not be sent, without showing it.
func checkToken(token, from string) error {
	for _, r := range token {
		if r <= ' ' || r > '~' {
			return fmt.Errorf("the token in %s holds a character that no token has", from)
		}
	}
	return nil
}

// readBounded reads a file of at most limit bytes.
func readBounded(path string, limit int64) (_ []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s: more than the %d bytes such a file may have", path, limit)
	}
	return data, err
}

// isTrue reads a switch as Python's huggingface_hub does.
func isTrue(value string) bool {
	return slices.Contains([]string{"1", "ON", "YES", "TRUE"}, strings.ToUpper(value))
}

func or(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}
