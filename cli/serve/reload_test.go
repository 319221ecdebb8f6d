package serve

import (
	"testing"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/cli/internal/command"
)

// A file whose reading never ends, such as a named pipe, does not keep the server from
// ending.
func TestReloadThatHangs(t *testing.T) {
	hangups, reading, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	defer close(ended)
	stop := reloadOnHangup(t.Context(), command.Streams{Hangups: func() <-chan struct{} { return hangups }}, zerolog.Nop(), []reload{{"keys", func() error {
		close(reading)
		<-ended
		return nil
	}}})
	hangups <- struct{}{}
	<-reading
	stop()
}
