package server

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// A ClientKey is a key that requests may send, by its hash: whoever reads it learns
// nothing about the key, which has 256 random bits.
type ClientKey struct {
	Name   string   // for logs and metrics
	SHA256 [32]byte // of the key
	Admin  bool     // whether it opens /admin/models
	// MaxRequests caps the scoring requests at a time, and PairsPerMinute the pairs that
	// they may ask for; 0 stands for no limit. A minute's pairs may come at once.
	MaxRequests    int
	PairsPerMinute int
}

const maxKeyName = 64

// check rejects a key that cannot be used.
func (k *ClientKey) check() error {
	switch {
	case k.Name == "" || len(k.Name) > maxKeyName || strings.Trim(k.Name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != "":
		return fmt.Errorf("name %q is not valid; expected 1 to %d letters, digits, dots, underscores and hyphens", k.Name, maxKeyName)
	case k.SHA256 == sha256.Sum256(nil):
		return fmt.Errorf("key %s has the hash of an empty text, which everyone knows; make a key with mlxrank key new", k.Name)
	case k.MaxRequests < 0:
		return fmt.Errorf("key %s has max-requests %d; expected at least 1, or nothing for no limit", k.Name, k.MaxRequests)
	case k.PairsPerMinute < 0:
		return fmt.Errorf("key %s has pairs-per-minute %d; expected at least 1, or nothing for no limit", k.Name, k.PairsPerMinute)
	}
	return nil
}

// Keys are the keys of a server, which may be replaced while it runs.
type Keys struct{ list atomic.Pointer[[]*client] }

// NewKeys returns keys to serve with. At least one is needed.
func NewKeys(list []ClientKey) (*Keys, error) {
	k := new(Keys)
	return k, k.Replace(list)
}

// Replace changes the keys of a running server. A key that stays keeps what it has used
// of its limits. After an error the keys are as before.
func (k *Keys) Replace(list []ClientKey) error {
	if len(list) == 0 {
		return errors.New("server: no keys; expected at least one")
	}
	before, after := map[[32]byte]*usage{}, make([]*client, len(list))
	if old := k.list.Load(); old != nil {
		for _, c := range *old {
			before[c.SHA256] = c.usage
		}
	}
	names, hashes := map[string]bool{}, map[[32]byte]bool{}
	for i, key := range list {
		if err := key.check(); err != nil {
			return fmt.Errorf("server: %w", err)
		}
		if names[key.Name] || hashes[key.SHA256] {
			return fmt.Errorf("server: key %s is there twice, by its name or its hash; give it once", key.Name)
		}
		names[key.Name], hashes[key.SHA256] = true, true
		after[i] = &client{ClientKey: key, usage: before[key.SHA256]}
	}
	now := time.Now()
	for _, c := range after {
		c.keepUsage(now)
	}
	k.list.Store(&after)
	return nil
}

// A client is whoever has a key.
type client struct {
	ClientKey
	*usage
}

// A usage is what the holders of a key use of its limits.
type usage struct {
	running atomic.Int64
	pairs   *rate.Limiter
}

// keepUsage begins the usage of a new key, or adapts one to the key's limits.
func (c *client) keepUsage(now time.Time) {
	limit, burst := rate.Inf, math.MaxInt32 // a limit that comes later begins with a minute's pairs
	if c.PairsPerMinute > 0 {
		limit, burst = rate.Limit(float64(c.PairsPerMinute)/time.Minute.Seconds()), c.PairsPerMinute
	}
	if c.usage == nil {
		c.usage = &usage{pairs: rate.NewLimiter(limit, burst)}
		return
	}
	c.pairs.SetLimitAt(now, limit)
	c.pairs.SetBurstAt(now, burst)
}

// find returns the client that has a token. The time depends on the number of keys alone.
func (k *Keys) find(token string) *client {
	var found *client
	given := sha256.Sum256([]byte(token))
	for _, c := range *k.list.Load() {
		if subtle.ConstantTimeCompare(given[:], c.SHA256[:]) == 1 {
			found = c
		}
	}
	return found
}

type clientKey struct{}

// withClient marks the context of a client's request.
func withClient(ctx context.Context, c *client) context.Context {
	if c == nil {
		return ctx
	}
	return context.WithValue(ctx, clientKey{}, c)
}

// clientOf returns the client of a request, nil if it has none.
func clientOf(ctx context.Context) *client {
	c, _ := ctx.Value(clientKey{}).(*client)
	return c
}

// begin admits a scoring request of a client; end must follow a success. A nil client has
// no limits.
func (c *client) begin() *failure {
	if c == nil {
		return nil
	}
	if n := c.running.Add(1); c.MaxRequests > 0 && n > int64(c.MaxRequests) {
		c.running.Add(-1)
		return failOverloaded("too many requests with key %s (limit %d at a time); wait for an answer", c.Name, c.MaxRequests)
	}
	return nil
}

func (c *client) end() {
	if c != nil {
		c.running.Add(-1)
	}
}

// takePairs counts the pairs of a request, which are used up even if it fails later.
func (c *client) takePairs(n int, now time.Time) *failure {
	if c == nil || c.PairsPerMinute == 0 || n == 0 {
		return nil
	}
	if n > c.PairsPerMinute {
		return failf(http.StatusUnprocessableEntity, kindValidation, "too many pairs: %d (key %s has %d a minute); split the request", n, c.Name, c.PairsPerMinute)
	}
	// A reservation that is cancelled would not give back all of its pairs if another one
	// came in between.
	if c.pairs.AllowN(now, n) {
		return nil
	}
	missing := float64(n) - c.pairs.TokensAt(now)
	f := failOverloaded("too many pairs: key %s has %d a minute; try again later", c.Name, c.PairsPerMinute)
	f.retryAfter = max(1, int(math.Ceil(missing/float64(c.PairsPerMinute)*time.Minute.Seconds())))
	return f
}

// isKeyed reports whether requests need a key.
func (s *Server) isKeyed() bool { return s.Key != "" || s.Keys != nil }

// identify checks the key of a request. The client is nil with Config.Key, which has
// no limits and opens everything.
func (s *Server) identify(r *http.Request) (c *client, ok bool) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if token = strings.TrimSpace(token); !strings.EqualFold(scheme, "Bearer") {
		return nil, false
	}
	if s.Keys != nil {
		c = s.Keys.find(token)
	}
	if s.Key != "" {
		given, want := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(s.Key))
		ok = subtle.ConstantTimeCompare(given[:], want[:]) == 1
	}
	return c, ok || c != nil
}
