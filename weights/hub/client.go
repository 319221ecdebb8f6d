// Package hub finds and downloads models of the Hugging Face hub. It shares the
// cache of Python's huggingface_hub.
//
// For a repository org/name the cache holds
//
//	models--org--name/refs/REVISION            commit of a branch or tag
//	models--org--name/snapshots/COMMIT/FILE    link to ../../blobs/ETAG
//	models--org--name/blobs/ETAG               bytes of a file, named by their hash
//	.locks/models--org--name/ETAG.lock         held while a blob is downloaded
//
// Without symbolic links, a snapshot holds the files themselves, and
//
//	models--org--name/trees/COMMIT.json        files of a commit with their hashes
//
// The hub's ETags are the SHA-256 of a large file and the git blob id of a small
// one, so that each blob can be checked against its name. Mirrors use other
// ETags. A blob appears when it is complete and checked, the files of a snapshot
// when all their blobs exist, and a ref after the files. An interrupted download
// therefore never leaves an incomplete snapshot.
package hub

import (
	"cmp"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const defaultEndpoint = "https://huggingface.co"

// A Client manages one cache and connects to one hub.
type Client struct {
	cache    string
	endpoint *url.URL
	offline  string // environment variable that forbids connections, "" for none
	limits   limits

	token     string // sent only to endpoint, never shown
	tokenFrom string // variable or file that the token was read from

	connecting sync.Mutex
	reached    atomic.Bool   // the hub has answered
	slots      chan struct{} // one is held during the transfer of a part
	metadata   *http.Client
	content    *http.Client
}

// limits bounds the concurrency of a client and the time that it waits.
type limits struct {
	connect time.Duration // until a connection is established
	answer  time.Duration // until the headers of a response arrive
	idle    time.Duration // between bytes of a response
	tries   int           // consecutive failures without a byte of progress
	backoff time.Duration // after the first failure; doubled after each further one
	maxWait time.Duration // longest wait between two tries
	part    int64         // bytes of a part of a file
	perFile int           // concurrent parts per file
	inAll   int           // concurrent parts
}

var defaultLimits = limits{
	connect: 5 * time.Second, answer: 10 * time.Second, idle: 10 * time.Second,
	tries: 5, backoff: time.Second, maxWait: time.Minute,
	part: 32 << 20, perFile: 4, inAll: 8,
}

// FromEnvironment returns a client configured by the environment variables of
// Python's huggingface_hub: HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE, HF_ENDPOINT,
// HF_HUB_DISABLE_SYMLINKS, and SENTENCE_TRANSFORMERS_HOME of sentence-transformers.
// HF_TOKEN, HF_TOKEN_PATH and HF_HUB_DISABLE_IMPLICIT_TOKEN are read before the
// first request.
func FromEnvironment() (*Client, error) {
	cache, err := cacheFromEnvironment()
	if err != nil {
		return nil, err
	}
	endpoint, err := parseEndpoint(cmp.Or(os.Getenv("HF_ENDPOINT"), defaultEndpoint))
	if err != nil {
		return nil, err
	}
	return &Client{cache: cache, endpoint: endpoint, limits: defaultLimits, offline: Offline()}, nil
}

// Cache returns the directory of the cache.
func (c *Client) Cache() string { return c.cache }

const (
	userAgent    = "mlxrank (+https://github.com/mlxrank/mlxrank)"
	maxRedirects = 10
)

// connect reads the token and creates the HTTP clients, once.
func (c *Client) connect() (err error) {
	c.connecting.Lock()
	defer c.connecting.Unlock()
	if c.metadata != nil {
		return nil
	}
	if c.token, c.tokenFrom, err = readToken(); err != nil {
		return err
	}
	transport := &http.Transport{
		Proxy:                 proxyFromEnvironment(),
		DialContext:           (&net.Dialer{Timeout: c.limits.connect, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:   c.limits.answer,
		ResponseHeaderTimeout: c.limits.answer,
		IdleConnTimeout:       30 * time.Second,
		MaxIdleConnsPerHost:   c.limits.inAll,
		ForceAttemptHTTP2:     true,
		DisableCompression:    true, // so that sizes and ranges refer to the files
	}
	authorized := &bearer{transport, c.endpoint, c.token}
	c.content = &http.Client{Transport: authorized, CheckRedirect: checkRedirect}
	c.metadata = &http.Client{Transport: authorized, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if h := r.Response.Header; h.Get("X-Linked-Etag") != "" && h.Get("X-Linked-Size") != "" {
			return http.ErrUseLastResponse // the redirect has all headers that we need
		}
		return checkRedirect(r, via)
	}}
	c.slots = make(chan struct{}, c.limits.inAll)
	return nil
}
