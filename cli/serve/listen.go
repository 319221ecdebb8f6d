package serve

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
)

const (
	unixPrefix = "unix:"
	systemd    = "systemd"
)

// listen opens the listeners of --listen: addresses, Unix sockets and the sockets that
// systemd passes on. Errors name what to do.
func listen(addresses []string) (list []net.Listener, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, closeAll(list))
		}
	}()
	for _, address := range addresses {
		var more []net.Listener
		switch path, isUnix := strings.CutPrefix(address, unixPrefix); {
		case address == "": // Go would take any port of all addresses
			err = errors.New("the address is empty; expected ADDRESS:PORT, unix:PATH or systemd")
		case address == systemd:
			more, err = listenSystemd()
		case isUnix:
			more, err = listenUnix(path)
		default:
			var l net.Listener
			if l, err = net.Listen("tcp", address); err == nil {
				more = []net.Listener{l}
			}
		}
		list = append(list, more...)
		if err != nil {
			return list, fmt.Errorf("%w; choose another address with --listen", err)
		}
	}
	return list, nil
}

// closeAll closes listeners that a server may have closed.
func closeAll(list []net.Listener) (err error) {
	for _, l := range list {
		if cerr := l.Close(); !errors.Is(cerr, net.ErrClosed) {
			err = errors.Join(err, cerr)
		}
	}
	return err
}

// listenUnix listens at a Unix socket. The umask decides who may connect, as it decides
// who may write a new file.
func listenUnix(path string) ([]net.Listener, error) {
	if path == "" || path[0] == '@' { // Linux's abstract sockets have no permissions
		return nil, fmt.Errorf("listen unix %q: expected the path of a socket", path)
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	return []net.Listener{l}, nil
}

// removeStale removes the socket of a server that was killed. It removes nothing else: no
// file, and no socket that somebody listens at.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("listen unix %s: there is a file that is not a socket, and is not removed", path)
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		return errors.Join(fmt.Errorf("listen unix %s: another server listens there", path), c.Close())
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("listen unix %s: whether another server listens there is unknown: %w", path, err)
	}
	return os.Remove(path)
}

// listenSystemd takes over the sockets that systemd has opened for the process.
func listenSystemd() ([]net.Listener, error) {
	files, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("sockets of systemd: %w", err)
	}
	var list []net.Listener
	for i, l := range files {
		if l == nil {
			return list, fmt.Errorf("sockets of systemd: number %d accepts no connections; expected ListenStream= in the unit", i+1)
		}
		list = append(list, l)
	}
	if len(list) == 0 {
		return nil, errors.New("sockets of systemd: LISTEN_FDS names none for this process; start the program by a unit such as mlxrank.socket")
	}
	return list, nil
}

// isReachable reports whether other machines may reach a listener.
func isReachable(l net.Listener) bool {
	at, err := netip.ParseAddrPort(l.Addr().String())
	return err == nil && !at.Addr().IsLoopback()
}

// address returns a listener's URL, or the form of --listen for a Unix socket.
func address(l net.Listener, secure bool) string {
	switch {
	case l.Addr().Network() == "unix":
		return unixPrefix + l.Addr().String()
	case secure:
		return "https://" + l.Addr().String()
	}
	return "http://" + l.Addr().String()
}

// pageAddress returns the URL that a browser on this machine can open.
func pageAddress(listening string) string {
	scheme, host, ok := strings.Cut(listening, "://")
	if at, err := netip.ParseAddrPort(host); ok && err == nil && at.Addr().IsUnspecified() {
		return fmt.Sprintf("%s://localhost:%d", scheme, at.Port())
	}
	return listening
}
