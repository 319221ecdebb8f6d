package service

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

// A balancer is a program that runs a configuration of this folder.
type balancer struct {
	name, file string
	// local has replacements that make the configuration run here: without root, and the
	// listener at the address LISTEN.
	local []replacement
	// run returns the environment and the command that runs the configuration, and may write
	// files into dir.
	run func(t *testing.T, dir, config string) (env, words []string)
}

type replacement struct{ old, with string }

var nginx = &balancer{name: "nginx", file: "nginx.conf",
	local: []replacement{{"    listen 80;\n", "    listen LISTEN;\n"}},
	run: func(t *testing.T, dir, config string) (env, words []string) {
		// Root's workers would be another user, who may not write here.
		main := "user root;\ndaemon off;\npid nginx.pid;\nworker_processes 2;\nevents {}\nhttp {\n\taccess_log off;\n"
		for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
			main += "\t" + kind + "_temp_path " + kind + ";\n"
		}
		main = writeFile(t, filepath.Join(dir, "main.conf"), main+"\tinclude "+config+";\n}\n")
		return nil, []string{built(t, "debs/nginx/usr/sbin/nginx"), "-p", dir, "-e", "stderr", "-c", main}
	},
}

var haproxy = &balancer{name: "HAProxy", file: "haproxy.cfg",
	local: []replacement{
		{"    bind :80\n", "    bind LISTEN\n"},
		{"    log /dev/log local0\n    chroot /var/lib/haproxy\n    user haproxy\n    group haproxy\n", "    log stderr format raw local0\n"},
	},
	run: func(t *testing.T, _, config string) (env, words []string) {
		libraries := ""
		for _, name := range []string{"liblua5.3-0", "libopentracing-c-wrapper0", "libopentracing1"} {
			libraries += built(t, "debs/"+name+"/usr/lib/x86_64-linux-gnu") + ":"
		}
		return []string{"LD_LIBRARY_PATH=" + libraries}, []string{built(t, "debs/haproxy/usr/sbin/haproxy"), "-db", "-f", config}
	},
}

var caddy = &balancer{name: "Caddy", file: "Caddyfile",
	local: []replacement{{"\nhttp://:80 {\n", "\nhttp://LISTEN {\n"}},
	run: func(t *testing.T, dir, config string) (env, words []string) {
		return []string{"HOME=" + dir, "XDG_DATA_HOME=" + dir, "XDG_CONFIG_HOME=" + dir, "CADDY_ADMIN=unix//" + filepath.Join(dir, "admin")},
			[]string{built(t, "tools/caddy"), "run", "--config", config, "--adapter", "caddyfile"}
	},
}

// long runs the tests longer, and with Caddy, which takes minutes to build.
var long = os.Getenv("MLXRANK_TEST_LONG") != ""

// balancers returns the balancers to test.
func balancers() []*balancer {
	if long {
		return []*balancer{nginx, haproxy, caddy}
	}
	return []*balancer{nginx, haproxy}
}

// start runs the configuration before three servers, after further replacements, and
// returns its address as a URL.
func (b *balancer) start(t *testing.T, addresses []string, changes ...replacement) string {
	t.Helper()
	data, err := os.ReadFile(b.file)
	if err != nil {
		t.Fatal(err)
	}
	text, address := string(data), freeAddress(t)
	for _, r := range append(b.local, changes...) {
		text = replaceOnce(t, b.file, text, r.old, r.with)
	}
	text = replaceOnce(t, b.file, text, "LISTEN", address)
	for i, placeholder := range []string{"192.0.2.11:8437", "192.0.2.12:8437", "192.0.2.13:8437"} {
		text = replaceOnce(t, b.file, text, placeholder, addresses[i])
	}
	dir := t.TempDir()
	env, words := b.run(t, dir, writeFile(t, filepath.Join(dir, b.file), text))
	p := startProcess(t, b.name, env, words...)
	waitForStatus(t, p, "http://"+address+"/ready", http.StatusOK)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s: %s", b.name, last(p.log.String(), 4000))
		}
	})
	return "http://" + address
}

// last returns the end of a text.
func last(text string, n int) string { return text[max(0, len(text)-n):] }
