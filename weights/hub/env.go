package hub

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Offline returns the environment variable that forbids connections, "" for none.
func Offline() string {
	for _, name := range []string{"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"} {
		if isTrue(os.Getenv(name)) {
			return name
		}
	}
	return ""
}

func parseEndpoint(s string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimRight(s, "/"))
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		// The value is left out because it may contain a password.
		return nil, errors.New("HF_ENDPOINT is not the URL of a hub, expected one like " + defaultEndpoint)
	}
	return u, nil
}

// cacheVariables lists the variables that set the cache; the first that is set
// counts. sentence-transformers passes its own to huggingface_hub, which then
// ignores the others.
var cacheVariables = []string{"SENTENCE_TRANSFORMERS_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"}

func cacheFromEnvironment() (string, error) {
	if name := cacheVariable(); name != "" {
		return expand(os.Getenv(name))
	}
	home, err := homeFromEnvironment()
	return filepath.Join(home, "hub"), err
}

// cacheVariable returns the variable that sets the cache, "" if none is set.
func cacheVariable() string {
	for _, name := range cacheVariables {
		if os.Getenv(name) != "" {
			return name
		}
	}
	return ""
}

// homeFromEnvironment returns the directory of all files of Hugging Face.
func homeFromEnvironment() (string, error) {
	if dir := os.Getenv("HF_HOME"); dir != "" {
		return expand(dir)
	}
	return expand(filepath.Join(cmp.Or(os.Getenv("XDG_CACHE_HOME"), "~/.cache"), "huggingface"))
}

// expand replaces a leading ~ and variables, as Python does. A variable that is
// not set stays unchanged. The result is absolute.
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

// readToken returns the user's token and where it is from: HF_TOKEN, or the file
// that `hf auth login` writes. It returns "" if there is none.
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

// checkToken rejects a token that cannot be sent. The error does not show it.
func checkToken(token, from string) error {
	for _, r := range token {
		if r <= ' ' || r > '~' {
			return fmt.Errorf("the token in %s contains an invalid character, expected printable ASCII without spaces", from)
		}
	}
	return nil
}

// isTrue parses a Boolean variable as Python's huggingface_hub does.
func isTrue(value string) bool {
	return slices.Contains([]string{"1", "ON", "YES", "TRUE"}, strings.ToUpper(value))
}
