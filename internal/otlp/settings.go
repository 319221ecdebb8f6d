package otlp

import (
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/sdk/trace"
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
	return u.Scheme + "://" + u.Host + u.Path, nil // a user or a query may have a key
}

// maxSpans bounds the queue and an upload: the SDK allocates both at the start.
const maxSpans = 1 << 20

// batching returns the settings of the queue. The SDK reads their variables itself, but
// panics where one is negative, and never rests between uploads where the delay is 0.
func batching(log zerolog.Logger) []trace.BatchSpanProcessorOption {
	queue := whole("OTEL_BSP_MAX_QUEUE_SIZE", trace.DefaultMaxQueueSize, maxSpans, log)
	upload := whole("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", trace.DefaultMaxExportBatchSize, maxSpans, log)
	delay := whole("OTEL_BSP_SCHEDULE_DELAY", trace.DefaultScheduleDelay, maxMilliseconds, log)
	limit := whole("OTEL_BSP_EXPORT_TIMEOUT", trace.DefaultExportTimeout, maxMilliseconds, log)
	return []trace.BatchSpanProcessorOption{
		trace.WithMaxQueueSize(queue), trace.WithMaxExportBatchSize(min(upload, queue)),
		trace.WithBatchTimeout(time.Duration(delay) * time.Millisecond), trace.WithExportTimeout(time.Duration(limit) * time.Millisecond),
	}
}

const maxMilliseconds = 1<<31 - 1

// whole returns a variable's number, or the default with a warning if it is not one from 1
// to most.
func whole(name string, byDefault, most int, log zerolog.Logger) int {
	text := strings.TrimSpace(os.Getenv(name))
	if text == "" {
		return byDefault
	}
	n, err := strconv.Atoi(text)
	if err == nil && n >= 1 && n <= most {
		return n
	}
	log.Warn().Msgf("traces: a variable of OpenTelemetry has no effect: %s; expected a whole number from 1 to %d", name, most)
	return byDefault
}
