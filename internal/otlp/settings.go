package otlp

import (
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// settings are what the environment says about the receiver.
type settings struct {
	url         *url.URL
	headers     http.Header
	timeout     time.Duration  // of an upload, with its repetitions
	compress    bool           // with gzip
	authorities *x509.CertPool // that sign the receiver's certificate, nil for the system's
}

const (
	general     = "OTEL_EXPORTER_OTLP_"
	ofTraces    = "OTEL_EXPORTER_OTLP_TRACES_"
	exporterEnv = "OTEL_TRACES_EXPORTER"

	defaultURL     = "http://localhost:4318/v1/traces"
	defaultTimeout = 10 * time.Second
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

func readSettings() (s settings, err error) {
	if exporter := os.Getenv(exporterEnv); exporter != "" && exporter != "otlp" {
		return s, fmt.Errorf("%s is %q; expected otlp or none", exporterEnv, exporter)
	}
	if protocol, source := lookUp("PROTOCOL"); protocol != "" && protocol != "http/protobuf" {
		return s, fmt.Errorf("%s is %q; expected http/protobuf, which receivers take at port 4318", source, protocol)
	}
	if s.url, err = readURL(); err != nil {
		return s, err
	}
	if s.headers, err = readHeaders(); err != nil {
		return s, err
	}
	s.timeout = defaultTimeout
	if text, source := lookUp("TIMEOUT"); text != "" {
		ms, err := strconv.ParseUint(text, 10, 31)
		if err != nil || ms == 0 {
			return s, fmt.Errorf("%s is %q; expected a positive whole number of milliseconds", source, text)
		}
		s.timeout = time.Duration(ms) * time.Millisecond
	}
	switch method, source := lookUp("COMPRESSION"); method {
	case "", "none":
	case "gzip":
		s.compress = true
	default:
		return s, fmt.Errorf("%s is %q; expected gzip or none", source, method)
	}
	if file, source := lookUp("CERTIFICATE"); file != "" {
		data, err := os.ReadFile(file)
		if err != nil {
			return s, fmt.Errorf("%s: %w", source, err)
		}
		s.authorities = x509.NewCertPool()
		if !s.authorities.AppendCertsFromPEM(data) {
			return s, fmt.Errorf("%s: %s has no certificate; expected PEM", source, file)
		}
	}
	return s, nil
}

// readURL returns the receiver's URL. The general variable has a base, to which the path
// of traces belongs; the variable of traces has the whole URL.
func readURL() (*url.URL, error) {
	text, source := lookUp("ENDPOINT")
	if text == "" {
		return url.Parse(defaultURL)
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, fmt.Errorf("%s is not a URL such as http://localhost:4318", source) // it may have a password
	}
	if source == general+"ENDPOINT" {
		u = u.JoinPath("v1", "traces")
	}
	return u, nil
}

// readHeaders parses NAME=VALUE,NAME=VALUE, in which values are escaped as in URLs. Its
// errors leave the values out, which may be keys.
func readHeaders() (http.Header, error) {
	headers := http.Header{}
	text, source := lookUp("HEADERS")
	for i, pair := range strings.Split(text, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		name, value, ok := strings.Cut(pair, "=")
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if name = strings.TrimSpace(name); !ok || name == "" || err != nil {
			return nil, fmt.Errorf("%s: header %d is not NAME=VALUE", source, i+1)
		}
		headers.Set(name, value)
	}
	return headers, nil
}
