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

var errProxy = errors.New("a proxy of this kind is not supported, expected http, https, socks5 or socks5h")

// proxyFromEnvironment is http.ProxyFromEnvironment with ALL_PROXY, which Go
// leaves out: it counts where HTTP_PROXY or HTTPS_PROXY is not set.
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
			// net/http would speak HTTP with it.
			return nil, fmt.Errorf("proxy %s://%s: %w", proxy.Scheme, proxy.Host, errProxy)
		}
		return proxy, nil
	}
}

// A bearer adds the token to requests to the hub. It is added here, and not to
// a request's headers, because an http.Client would carry those along to
// subdomains and to other ports: content servers are no business of the token.
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

// CloseIdleConnections is what an http.Client's method of that name calls.
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

// A transient error may go away by itself.
type transient struct {
	err   error
	after time.Duration // that the server asked to wait
}

func (t *transient) Error() string { return t.err.Error() }

func (t *transient) Unwrap() error { return t.err }

// retry calls try until it succeeds, or fails for good, or too often in a row
// without a byte of progress.
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

// pause grows with the number of failures; a random part keeps processes that
// failed together from coming back together.
func (c *Client) pause(failures int) time.Duration {
	d := min(c.limits.backoff<<(failures-1), c.limits.maxWait)
	return d/2 + rand.N(d/2+1)
}

// send makes one request and returns an answer of status 2xx, or a redirect
// where the client stops at one.
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

// sendError says why there is no answer. The address is left out but for its
// host: those of content servers are signed.
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
	text := c.clean(err.Error()) // it may quote the server
	if !strings.Contains(text, host) {
		text = host + ": " + text
	}
	err = &cleaned{text, err}
	switch {
	case errors.Is(err, errRedirect), errors.Is(err, errProxy), errors.As(err, &certificate), errors.As(err, &record):
		return err
	case connecting && !c.reached.Load():
		return err // at once: whoever has no network need not wait for it
	}
	return &transient{err: err}
}

// get returns the body of a small resource, at most limit bytes.
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
			return false, fmt.Errorf("%s: an answer of more than %d bytes", response.Request.URL.Host, limit)
		}
		return true, nil
	})
	return data, err
}

var errStalled = errors.New("no bytes came in time")

// watch returns a context that ends when the reader made by touch has given no
// bytes for too long. Waiting for the headers is the transport's to bound.
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

// readError says why a body ended early; it may be whole the next time.
func (c *Client) readError(live context.Context, response *http.Response, err error) error {
	if errors.Is(context.Cause(live), errStalled) {
		err = errStalled
	}
	return &transient{err: fmt.Errorf("%s: the transfer broke off: %w", response.Request.URL.Host, err)}
}

// rateLimit finds the seconds until the hub answers again, as in "api";r=0;t=55.
var rateLimit = regexp.MustCompile(`;\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d+)`)

// retryAfter reads how long the server asks to wait: the hub's RateLimit, or a
// Retry-After header with seconds or a date.
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
