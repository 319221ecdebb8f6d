package clitest

import (
	"fmt"
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Shown returns the bytes that use writes to a terminal.
func Shown(t *testing.T, use func(w io.Writer)) string {
	t.Helper()
	control, terminal := OpenTerminal(t, 80)
	got := make(chan string)
	go func() {
		data, err := io.ReadAll(control)
		if err != nil && len(data) == 0 { // a closed terminal ends in an error
			t.Error(err)
		}
		got <- string(data)
	}()
	use(terminal)
	if err := terminal.Close(); err != nil {
		t.Fatal(err)
	}
	text := <-got
	if err := control.Close(); err != nil {
		t.Fatal(err)
	}
	return text
}

// OpenTerminal returns both ends of a pseudoterminal with the given columns.
func OpenTerminal(t *testing.T, columns uint16) (control, terminal *os.File) {
	t.Helper()
	control, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(control.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns})
	}
	if err == nil {
		terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	return control, terminal
}
