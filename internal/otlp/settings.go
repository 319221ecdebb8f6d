package otlp

import (
	"fmt"
	"net/url"
	"os"
	"strings"
)

const (
	general     = "OTEL_EXPORTER_OTLP_"
	ofTraces    = "OTEL_EXPORTER_OTLP_TRACES_"
	exporterEnv = "OTEL_TRACES_EXPORTER"

	defaultReceiver = "http://localhost:4318"
)

// lookUp returns the variable of traces, or else the general one, with its name.
func lookUp(name string) (value, source string) {
	for _, prefix := range []string{ofTraces, general} {
		if value = strings.TrimSpace(os.Getenv(prefix + name)); value != "" {
			return value, prefix + name
		}
	}
	return "", ""
}

// wanted reports whether the environment asks for traces.
func wanted() bool {
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		return false
	}
	endpoint, _ := lookUp("ENDPOINT")
	exporter := os.Getenv(exporterEnv)
	return exporter != "none" && (exporter != "" || endpoint != "")
}

// receiver returns the receiver's address for the log. It refuses what would make the
// exporter send traces to another receiver, or in another way, than was asked for.
func receiver() (string, error) {
	if exporter := os.Getenv(exporterEnv); exporter != "" && exporter != "otlp" {
		return "", fmt.Errorf("%s is %q; expected otlp or none", exporterEnv, exporter)
	}
	if protocol, source := lookUp("PROTOCOL"); protocol != "" && protocol != "http/protobuf" {
		return "", fmt.Errorf("%s is %q; expected http/protobuf, which receivers take at port 4318", source, protocol)
	}
	text, source := lookUp("ENDPOINT")
	if text == "" {
		return defaultReceiver, nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return "", fmt.Errorf("%s is not a URL such as %s", source, defaultReceiver) // it may have a password
	}
	return u.Redacted(), nil
}
