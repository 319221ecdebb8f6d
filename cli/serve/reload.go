package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/keyfile"
	"github.com/mlxrank/mlxrank/server"
)

// A reload is what SIGHUP reads again. If read fails, everything is as before.
type reload struct {
	what string
	read func() error
}

// reloadOnHangup reads files again at each SIGHUP until stop is called. Without any, the
// signal ends the server. stop waits for no file: reading a named pipe, or one of
// a network that is down, may never end.
func reloadOnHangup(ctx context.Context, s command.Streams, log zerolog.Logger, list []reload) (stop func()) {
	if s.Hangups == nil || len(list) == 0 {
		return func() {}
	}
	hangups := s.Hangups()
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangups:
			}
			for _, r := range list {
				if err := r.read(); err != nil {
					log.Error().Err(err).Msg(r.what + " not read again; the ones before stay")
					continue
				}
				log.Info().Msg(r.what + " read again")
			}
		}
	}()
	return cancel
}

// serverFiles sets what the server reads from files, and returns how to read it again.
func serverFiles(c *cli.Context, settings *server.Config) (list []reload, err error) {
	if c.IsSet("keys") {
		path := c.String("keys")
		keys, err := keyfile.Read(path)
		if err != nil {
			return nil, err
		}
		if settings.Keys, err = server.NewKeys(keys); err != nil {
			return nil, fmt.Errorf("%s: %s has no keys; add one with mlxrank key new --keys", command.Source(c, "keys"), path)
		}
		list = append(list, reload{"keys", func() error {
			keys, err := keyfile.Read(path)
			if err != nil {
				return err
			}
			return settings.Keys.Replace(keys)
		}})
	}
	if c.IsSet("tls-cert") != c.IsSet("tls-key") {
		return nil, command.Usagef("--tls-cert and --tls-key belong together; give both, or neither")
	}
	if c.IsSet("tls-cert") {
		pair := &certificate{chain: c.String("tls-cert"), key: c.String("tls-key")}
		if err := pair.read(); err != nil {
			return nil, err
		}
		settings.TLS = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: pair.get}
		list = append(list, reload{"certificate", pair.read})
	}
	return list, nil
}

// A certificate is the pair of files that TLS needs.
type certificate struct {
	chain, key string // paths
	current    atomic.Pointer[tls.Certificate]
}

func (p *certificate) read() error {
	pair, err := tls.LoadX509KeyPair(p.chain, p.key)
	if err != nil {
		return fmt.Errorf("certificate %s with key %s: %w; expected PEM files that belong together", p.chain, p.key, err)
	}
	p.current.Store(&pair)
	return nil
}

func (p *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if pair := p.current.Load(); pair != nil {
		return pair, nil
	}
	return nil, errors.New("no certificate")
}
