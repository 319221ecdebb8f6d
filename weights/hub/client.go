// Package hub finds models of the Hugging Face hub in the cache that Python's
// huggingface_hub shares, and downloads what is missing of them.
//
// Of a repository org/name the cache holds
//
//	models--org--name/refs/REVISION            the commit that a branch or tag was at
//	models--org--name/snapshots/COMMIT/FILE    a link to ../../blobs/ETAG
//	models--org--name/blobs/ETAG               a file's bytes, named by their hash
//	.locks/models--org--name/ETAG.lock         held while a blob is made
//
// Without symbolic links a snapshot holds the files themselves, and
//
//	models--org--name/trees/COMMIT.json        the commit's files with their hashes
//
// An ETag is the SHA-256 of a large file and the git blob id of a small one, so
// that every blob can be checked against its name; mirrors have other ETags. A
// blob appears when it is complete and checked, a snapshot's files when all
// blobs are there, and a ref after them: whatever interrupts a download, what
// the cache shows is whole.
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

// limits are the bounds of what a client does at once and how long it waits.
type limits struct {
	connect time.Duration // until a connection stands
	answer  time.Duration // until the headers of an answer are there
	idle    time.Duration // between bytes of an answer
	tries   int           // failures in a row, without a byte of progress
	backoff time.Duration // after the first failure; doubled by each further one
	maxWait time.Duration // longest wait between two tries
	part    int64         // bytes of a part that is fetched on its own
	perFile int           // parts of a file fetched at once
	inAll   int           // parts fetched at once
}

var defaultLimits = limits{
	connect: 5 * time.Second, answer: 10 * time.Second, idle: 10 * time.Second,
	tries: 5, backoff: time.Second, maxWait: time.Minute,
	part: 32 << 20, perFile: 4, inAll: 8,
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
	endpoint, err := parseEndpoint(cmp.Or(os.Getenv("HF_ENDPOINT"), defaultEndpoint))
	if err != nil {
		return nil, err
	}
	return &Client{cache: cache, endpoint: endpoint, limits: defaultLimits, offline: Offline()}, nil
}

// Cache is the directory that the models are kept in.
func (c *Client) Cache() string { return c.cache }

const (
	userAgent    = "mlxrank (+https://github.com/mlxrank/mlxrank)"
	maxRedirects = 10
)

// connect makes the client ready to talk to the hub.
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
		DisableCompression:    true, // sizes and ranges are those of the files
	}
	authorized := &bearer{transport, c.endpoint, c.token}
	c.content = &http.Client{Transport: authorized, CheckRedirect: checkRedirect}
	c.metadata = &http.Client{Transport: authorized, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if h := r.Response.Header; h.Get("X-Linked-Etag") != "" && h.Get("X-Linked-Size") != "" {
			return http.ErrUseLastResponse // the redirect itself says what there is to know
		}
		return checkRedirect(r, via)
	}}
	c.slots = make(chan struct{}, c.limits.inAll)
	return nil
}
