package service

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
)

// A manifest is the part of kubernetes.yaml that the test uses. make lint checks the file
// against the schemas of Kubernetes.
type manifest struct {
	secret struct {
		StringData map[string]string `yaml:"stringData"`
	}
	deployment struct {
		Spec struct {
			Selector struct {
				MatchLabels map[string]string `yaml:"matchLabels"`
			}
			Template struct {
				Metadata struct{ Labels map[string]string }
				Spec     podSpec
			}
		}
	}
	budget struct {
		Spec struct {
			Selector struct {
				MatchLabels map[string]string `yaml:"matchLabels"`
			}
		}
	}
	service struct {
		Spec struct{ Selector map[string]string }
	}
}

type podSpec struct {
	Grace      int `yaml:"terminationGracePeriodSeconds"`
	Containers []struct {
		Args []string
		Env  []struct{ Name, Value string }
		// Startup and the others are how Kubernetes asks for the state.
		Startup   probe `yaml:"startupProbe"`
		Readiness probe `yaml:"readinessProbe"`
		Liveness  probe `yaml:"livenessProbe"`
	}
}

type probe struct {
	HTTPGet          struct{ Path string } `yaml:"httpGet"`
	PeriodSeconds    int                   `yaml:"periodSeconds"`
	FailureThreshold int                   `yaml:"failureThreshold"`
}

func readManifest(t *testing.T) (m manifest) {
	t.Helper()
	data, err := os.ReadFile("kubernetes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	documents := yaml.NewDecoder(bytes.NewReader(data))
	for _, part := range []any{&m.secret, &m.deployment, &m.budget, &m.service} {
		if err := documents.Decode(part); err != nil {
			t.Fatal(err)
		}
	}
	if err := documents.Decode(&struct{}{}); !errors.Is(err, io.EOF) {
		t.Fatalf("after the service: %v, want the end of the file", err)
	}
	return m
}

// TestKubernetes starts the server as the manifest does, asks what its probes ask, and stops
// it. There is no cluster in the test.
func TestKubernetes(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	t.Parallel()
	m := readManifest(t)
	pod := m.deployment.Spec.Template
	for name, labels := range map[string]map[string]string{
		"the deployment": m.deployment.Spec.Selector.MatchLabels, "the budget": m.budget.Spec.Selector.MatchLabels, "the service": m.service.Spec.Selector,
	} {
		if len(labels) == 0 || !reflect.DeepEqual(labels, pod.Metadata.Labels) {
			t.Errorf("%s selects %v, the pods have %v", name, labels, pod.Metadata.Labels)
		}
	}
	container, address, dir := pod.Spec.Containers[0], freeAddress(t), t.TempDir()
	local := map[string]string{
		"MLXRANK_LISTEN": address, "MLXRANK_MODEL": "builtin", "HF_HOME": dir, "XDG_CACHE_HOME": dir,
		"MLXRANK_KEYS": writeFile(t, filepath.Join(dir, "keys.yaml"), m.secret.StringData["keys.yaml"]),
	}
	var env []string
	var stop time.Duration // that the server may take, and a second to close connections
	for _, v := range container.Env {
		if value, ok := local[v.Name]; ok {
			v.Value = value
			delete(local, v.Name)
		}
		if strings.HasPrefix(v.Name, "MLXRANK_DRAIN_") {
			d, err := time.ParseDuration(v.Value)
			if err != nil {
				t.Fatal(err)
			}
			stop += d
		}
		env = append(env, v.Name+"="+v.Value)
	}
	if grace := time.Duration(pod.Spec.Grace) * time.Second; grace < stop+time.Second || len(local) > 0 {
		t.Errorf("the grace period is %v, the server may take %v; %v is not set", grace, stop, local)
	}
	if after := container.Readiness.PeriodSeconds * container.Readiness.FailureThreshold; stop == 0 || after > 10 {
		t.Errorf("a pod is left out after %d s, which is longer than the drain delay", after)
	}
	url := "http://" + address
	p := startProcess(t, "the server of the manifest", append(env, "MLXRANK_DRAIN_DELAY=1s"), append([]string{program}, container.Args...)...)
	for _, probe := range []probe{container.Startup, container.Readiness, container.Liveness} {
		waitForStatus(t, p, url+probe.HTTPGet.Path, http.StatusOK)
	}
	if status, _, _, err := post(t.Context(), http.DefaultClient, url, `{"query": "q", "texts": ["d"]}`); err != nil || status != http.StatusUnauthorized {
		t.Errorf("a key that the secret lacks: %d, %v, want 401", status, err)
	}
	if strings.Contains(p.log.String(), "unknown environment variable") {
		t.Errorf("the server does not know a variable: %s", p.log.String())
	}
	p.signal(t, syscall.SIGTERM)
	waitForStatus(t, p, url+container.Readiness.HTTPGet.Path, http.StatusServiceUnavailable)
	waitForStatus(t, p, url+container.Liveness.HTTPGet.Path, http.StatusOK)
	if status := p.end(t); status != 0 {
		t.Errorf("status %d after SIGTERM: %s", status, p.log.String())
	}
}
