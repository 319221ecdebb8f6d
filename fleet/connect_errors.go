package fleet

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/nats-io/nats.go"
)

// checkAddresses rejects addresses that cannot be parsed, without showing them: they may
// have a token.
func checkAddresses(addresses string) error {
	for _, address := range strings.Split(addresses, ",") {
		parsed, err := url.Parse(strings.TrimSpace(address))
		if err != nil || parsed.Host == "" || parsed.Scheme != "nats" && parsed.Scheme != "tls" {
			return errors.New("the address of the fleet's server is not nats://TOKEN@HOST:PORT or tls://TOKEN@HOST:PORT; use the join line that mlxrank fleet start printed")
		}
	}
	return nil
}

// tellingError returns the error of the first of several servers that answers, since the
// client reports any one of them.
func tellingError(addresses string, options []nats.Option, err error) error {
	list := strings.Split(addresses, ",")
	for _, address := range list {
		if len(list) == 1 {
			break
		}
		conn, one := nats.Connect(strings.TrimSpace(address), options...)
		if one == nil {
			conn.Close()
			continue
		}
		var network *net.OpError
		if isDial := errors.As(one, &network) && network.Op == "dial"; !isDial && !errors.Is(one, nats.ErrNoServers) {
			return one
		}
	}
	return err
}

// explainConnect adds what to do to the error of a failed connection.
func explainConnect(address string, err error) error {
	shown := redact(address)
	var (
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		expired   x509.CertificateInvalidError
		network   *net.OpError
	)
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked), errors.Is(err, nats.ErrAccountAuthExpired):
		return fmt.Errorf("the server at %s rejects the credentials; use the join line that its mlxrank fleet start printed, or give --creds or --nkey", shown)
	case errors.Is(err, nats.ErrNkeysNotSupported):
		return fmt.Errorf("the server at %s knows no nkeys; leave out --nkey, and use the join line that its mlxrank fleet start printed", shown)
	case errors.Is(err, nats.ErrSecureConnRequired):
		return fmt.Errorf("the server at %s requires TLS; use tls:// in the address, and --ca for a certificate of your own", shown)
	case errors.Is(err, nats.ErrSecureConnWanted):
		return fmt.Errorf("the server at %s has no TLS; use nats:// in the address and no --ca", shown)
	case errors.As(err, &authority):
		return fmt.Errorf("the certificate of the server at %s is signed by an authority that this machine does not know; give the authority's certificate by --ca (%w)", shown, authority)
	case errors.As(err, &name):
		return fmt.Errorf("the certificate of the server at %s is for another name; use an address that it names (%w)", shown, name)
	case errors.As(err, &expired):
		return fmt.Errorf("the certificate of the server at %s is not valid; check its dates and the clock of this machine (%w)", shown, expired)
	case isCertificateRefused(err):
		return fmt.Errorf("the server at %s does not accept this client's certificate; give --client-cert and --client-key, signed by an authority that the server knows (%w)", shown, err)
	case errors.Is(err, nats.ErrNoInfoReceived), strings.Contains(err.Error(), "expected 'INFO'"), errors.As(err, &network) && network.Op == "read":
		return fmt.Errorf("the program at %s is no NATS server; check the port (%w)", shown, err)
	case isLoopback(address):
		return fmt.Errorf("no fleet server answers at %s, which is this machine itself; if the server runs on another machine, use its address, which its mlxrank fleet start printed (%w)", shown, err)
	}
	return fmt.Errorf("no fleet server answers at %s; check that mlxrank fleet start runs there with --listen 0.0.0.0:4222, and that no firewall is between (%w)", shown, err)
}

// isCertificateRefused reports whether a server ended a connection because of the client's
// certificate. Since TLS 1.3 it may do so after the handshake.
func isCertificateRefused(err error) bool {
	for _, text := range []string{"certificate required", "bad certificate", "unknown certificate authority", "closed by remote after TLS handshake"} {
		if strings.Contains(err.Error(), text) {
			return true
		}
	}
	return false
}

// isLoopback reports whether an address is of this machine alone.
func isLoopback(address string) bool {
	parsed, err := url.Parse(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(parsed.Hostname())
	return parsed.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// redact removes secrets from addresses.
func redact(addresses string) string {
	list := strings.Split(addresses, ",")
	for i, address := range list {
		parsed, err := url.Parse(strings.TrimSpace(address))
		if err != nil {
			list[i] = "(an address that cannot be parsed)"
			continue
		}
		parsed.User = nil
		list[i] = parsed.String()
	}
	return strings.Join(list, ",")
}
