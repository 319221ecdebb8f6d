package hub

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpproxy"
)

var errProxy = errors.New("unsupported kind of proxy, expected http, https, socks5 or socks5h")

// proxyFromEnvironment extends http.ProxyFromEnvironment by ALL_PROXY, the default
// of HTTP_PROXY and HTTPS_PROXY, which Go does not support.
func proxyFromEnvironment() func(*http.Request) (*url.URL, error) {
	config := httpproxy.FromEnvironment()
	all := cmp.Or(os.Getenv("all_proxy"), os.Getenv("ALL_PROXY"))
	config.HTTPProxy, config.HTTPSProxy = cmp.Or(config.HTTPProxy, all), cmp.Or(config.HTTPSProxy, all)
	choose := config.ProxyFunc()
	return func(r *http.Request) (*url.URL, error) {
		proxy, err := choose(r.URL)
		if err != nil || proxy == nil {
			return nil, err
		}
		if !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, proxy.Scheme) {
			// net/http would treat it as an HTTP proxy.
			return nil, fmt.Errorf("proxy %s://%s: %w", proxy.Scheme, proxy.Host, errProxy)
		}
		return proxy, nil
	}
}

// A bearer adds the token to requests to the hub. The token is not part of a
// request's headers, because http.Client would copy those to redirects to
// subdomains and other ports, and content servers must not see the token.
type bearer struct {
	next   *http.Transport
	origin *url.URL
	token  string
}

func (b *bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	if b.token != "" && sameOrigin(r.URL, b.origin) {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+b.token)
	}
	return b.next.RoundTrip(r)
}

// CloseIdleConnections implements the method that http.Client calls.
func (b *bearer) CloseIdleConnections() { b.next.CloseIdleConnections() }

func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && a.Hostname() == b.Hostname() && port(a) == port(b)
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	return map[string]string{"http": "80", "https": "443"}[u.Scheme]
}

var errRedirect = errors.New("redirect refused")

func checkRedirect(r *http.Request, via []*http.Request) error {
	switch last := via[len(via)-1]; {
	case len(via) >= maxRedirects:
		return fmt.Errorf("%w: more than %d in a row", errRedirect, maxRedirects)
	case last.URL.Scheme == "https" && r.URL.Scheme != "https":
		return fmt.Errorf("%w: from https to %s at %s", errRedirect, r.URL.Scheme, r.URL.Host)
	}
	return nil
}

// A transient error may disappear when the request is repeated.
type transient struct {
	err   error
	after time.Duration // the wait that the server asked for
}

func (t *transient) Error() string { return t.err.Error() }

func (t *transient) Unwrap() error { return t.err }

// Temporary marks the error for callers that answer faults of the moment differently.
func (t *transient) Temporary() bool { return true }

// retry calls try until it succeeds, returns an error that is not transient, or
// fails too many times in a row without a byte of progress.
func (c *Client) retry(ctx context.Context, try func() (moved bool, err error)) error {
	for failures := 0; ; {
		moved, err := try()
		var again *transient
		if err == nil || ctx.Err() != nil || !errors.As(err, &again) {
			return errors.Join(ctx.Err(), err)
		}
		if moved {
			failures = 0
		}
		failures++
		if failures >= c.limits.tries {
			return fmt.Errorf("%w (after %d tries)", err, failures)
		}
		wait := max(again.after, c.pause(failures))
		if wait > c.limits.maxWait {
			return fmt.Errorf("%w: try again in %v", err, again.after)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// pause returns the wait after a number of failures, which grows with the number.
// Its random part spreads processes that failed at the same time.
func (c *Client) pause(failures int) time.Duration {
	d := min(c.limits.backoff<<(failures-1), c.limits.maxWait)
	return d/2 + rand.N(d/2+1)
}

// send makes one request. It returns a response with status 2xx, or a redirect if
// client does not follow it.
func (c *Client) send(ctx context.Context, client *http.Client, method, address string, header http.Header) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, address, nil)
	if err != nil {
		return nil, err
	}
	if header != nil {
		r.Header = header.Clone()
	}
	r.Header.Set("User-Agent", userAgent)
	r.Header.Set("Accept-Encoding", "identity")
	response, err := client.Do(r)
	if err != nil {
		return nil, c.sendError(r.URL, err)
	}
	c.reached.Store(true)
	if response.StatusCode < 400 {
		return response, nil
	}
	err = c.statusError(response)
	return nil, errors.Join(err, response.Body.Close())
}

// sendError describes why there is no response. It shows only the host of a URL,
// because the URLs of content servers contain signatures.
func (c *Client) sendError(to *url.URL, err error) error {
	host := to.Host
	var failed *url.Error
	if errors.As(err, &failed) {
		if at, perr := url.Parse(failed.URL); perr == nil {
			host = at.Host
		}
		err = failed.Err
	}
	var (
		dial        *net.OpError
		lookup      *net.DNSError
		certificate *tls.CertificateVerificationError
		record      tls.RecordHeaderError
	)
	connecting := errors.As(err, &lookup) || errors.As(err, &dial) && (dial.Op == "dial" || dial.Op == "proxyconnect")
	text := c.clean(err.Error()) // may quote the server
	if !strings.Contains(text, host) {
		text = host + ": " + text
	}
	err = &cleaned{text, err}
	switch {
	case errors.Is(err, errRedirect), errors.Is(err, errProxy), errors.As(err, &certificate), errors.As(err, &record):
		return err
	case connecting && !c.reached.Load():
		return err // without a network, retrying only delays the error
	}
	return &transient{err: err}
}

// get returns the body of a resource of at most limit bytes.
func (c *Client) get(ctx context.Context, address string, limit int64) ([]byte, error) {
	var data []byte
	err := c.retry(ctx, func() (moved bool, err error) {
		live, touch, stop := c.watch(ctx)
		defer stop()
		response, err := c.send(live, c.content, http.MethodGet, address, nil)
		if err != nil {
			return false, err
		}
		defer func() { err = errors.Join(err, response.Body.Close()) }()
		data, err = io.ReadAll(io.LimitReader(touch(response.Body), limit+1))
		if err != nil {
			return false, c.readError(live, response, err)
		}
		if int64(len(data)) > limit {
			return false, fmt.Errorf("%s: response too large: more than %d bytes", response.Request.URL.Host, limit)
		}
		return true, nil
	})
	return data, err
}

var errStalled = errors.New("no data received in time")

// watch returns a context that ends when the reader made by touch returns no bytes
// for too long. The transport bounds the time until the headers arrive.
func (c *Client) watch(ctx context.Context) (live context.Context, touch func(io.Reader) io.Reader, stop func()) {
	live, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(time.Duration(1<<62), func() { cancel(errStalled) })
	touch = func(r io.Reader) io.Reader {
		timer.Reset(c.limits.idle)
		return readerFunc(func(p []byte) (int, error) {
			n, err := r.Read(p)
			timer.Reset(c.limits.idle)
			return n, err
		})
	}
	return live, touch, func() {
		timer.Stop()
		cancel(nil)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// readError describes why a body ended early. The error is transient.
func (c *Client) readError(live context.Context, response *http.Response, err error) error {
	if errors.Is(context.Cause(live), errStalled) {
		err = errStalled
	}
	return &transient{err: fmt.Errorf("%s: transfer interrupted: %w", response.Request.URL.Host, err)}
}

// rateLimit matches the seconds until the hub accepts requests, as in "api";r=0;t=55.
var rateLimit = regexp.MustCompile(`;\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d+)`)

// retryAfter returns how long the server asks to wait, from the hub's RateLimit
// header, or a Retry-After header with seconds or a date.
func retryAfter(h http.Header) time.Duration {
	value := h.Get("Retry-After")
	if match := rateLimit.FindStringSubmatch(h.Get("RateLimit")); match != nil {
		value = match[1]
	}
	if seconds, err := strconv.Atoi(value); err == nil && seconds >= 0 {
		return time.Duration(min(seconds, 1<<30)) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(time.Until(at), 0)
	}
	return 0
}
