package sandbox_test

import (
	"bytes"
	"context"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/meshd-io/meshd/pkg/lab/dns"
	"github.com/meshd-io/meshd/pkg/lab/network"
	"github.com/meshd-io/meshd/pkg/lab/sandbox"
)

// installed returns the path of the first of the commands that the machine has,
// and skips the test if it has none.
func installed(t *testing.T, commands ...string) string {
	t.Helper()
	for _, c := range commands {
		if path, err := exec.LookPath(c); err == nil {
			return path
		}
		if found, err := filepath.Glob(c); err == nil && len(found) > 0 {
			return found[len(found)-1]
		}
	}
	t.Skipf("NOT TESTED: none of %v is installed", commands)
	return ""
}

// syncBuffer is a buffer that may be read while it is written.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// caller is a pod with a client.
func (l *lab) caller(t *testing.T) *sandbox.Process {
	t.Helper()
	return l.idle(t, sandbox.Spec{Name: "caller", Network: l.pod(t, "caller").File(), User: sandbox.User{UID: 1000, GID: 1000}})
}

// answers waits until a shell line in p prints something that has want in it.
func (l *lab) answers(t *testing.T, p *sandbox.Process, line, want string) {
	t.Helper()
	waitUntil(t, line, func() bool {
		out, _ := l.sh(t, p, line)
		return strings.Contains(out, want)
	})
}

// get is a shell line that fetches by HTTP with python, which every machine
// with these tests has.
func get(url string) string {
	return `python3 -c 'import urllib.request as r; print(r.urlopen("` + url + `", timeout=5).read().decode())'`
}

// tcp is a shell line that sends text and prints the answer.
func tcp(at netip.AddrPort, send string) string {
	return `python3 -c 'import socket; s = socket.create_connection(("` + at.Addr().String() + `", ` +
		strings.TrimPrefix(at.String()[strings.LastIndex(at.String(), ":"):], ":") + `), 5); s.sendall(b"` + send + `"); print(s.recv(1000))'`
}

func TestPython(t *testing.T) {
	python := installed(t, "/usr/bin/python3", "python3")
	inLab(t, func(t *testing.T, l *lab) {
		files := volume(t, l, "www", map[string]string{"index.html": "from python"})
		ns := l.pod(t, "web")
		l.start(t, sandbox.Spec{Name: "web", Network: ns.File(), User: sandbox.User{UID: 1000, GID: 1000}, WorkDir: "/www",
			Command: []string{python, "-m", "http.server", "8080", "--bind", "::"},
			Mounts:  []sandbox.Mount{{Source: files, Target: "/www"}}})
		c := l.caller(t)
		for _, a := range ns.Addrs {
			l.answers(t, c, get("http://"+netip.AddrPortFrom(a, 8080).String()), "from python")
		}
	})
}

// TestNginx: as root with what a runtime gives, workers as another user, logs
// to /dev/stdout, port 80.
func TestNginx(t *testing.T) {
	installed(t, "python3") // the client
	nginx := installed(t, "nginx", "/usr/sbin/nginx")
	everywhere(t, func(t *testing.T, l *lab) {
		conf := volume(t, l, "conf", map[string]string{"nginx.conf": `
worker_processes 2; daemon off; error_log /dev/stderr; user www-data;
events {}
http { access_log /dev/stdout; server { listen 80; listen [::]:80; location / { return 200 "from nginx\n"; } } }
`})
		ns := l.pod(t, "nginx")
		l.start(t, sandbox.Spec{Name: "nginx", Network: ns.File(), Command: []string{nginx, "-c", "/etc/lab/nginx.conf"},
			Capabilities: sandbox.DefaultCapabilities(), Mounts: []sandbox.Mount{{Source: conf, Target: "/etc/lab", ReadOnly: true}}})
		c := l.caller(t)
		for _, a := range ns.Addrs {
			l.answers(t, c, get("http://"+netip.AddrPortFrom(a, 80).String()), "from nginx")
		}
	})
}

func TestRedis(t *testing.T) {
	installed(t, "python3") // the client
	redis := installed(t, "redis-server", "valkey-server")
	inLab(t, func(t *testing.T, l *lab) {
		ns := l.pod(t, "redis")
		l.start(t, sandbox.Spec{Name: "redis", Network: ns.File(), User: sandbox.User{UID: 999, GID: 999},
			Command: []string{redis, "--protected-mode", "no", "--dir", "/tmp"}})
		c := l.caller(t)
		for _, a := range ns.Addrs {
			l.answers(t, c, tcp(netip.AddrPortFrom(a, 6379), `PING\r\n`), "+PONG")
		}
	})
}

// TestPostgres: another user, a data directory that must belong to it, a
// socket in /run, fork of many processes, shared memory.
func TestPostgres(t *testing.T) {
	postgres, err := filepath.EvalSymlinks(installed(t, "postgres", "/usr/lib/postgresql/*/bin/postgres"))
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Dir(postgres) // initdb lies beside the program, not beside a link to it
	everywhere(t, func(t *testing.T, l *lab) {
		data := volume(t, l, "pgdata", nil)
		ns := l.pod(t, "pg")
		var log syncBuffer
		pg := l.start(t, sandbox.Spec{Name: "pg", Network: ns.File(), User: sandbox.User{UID: 999, GID: 999},
			Env:    []string{"PATH=" + bin + ":/usr/bin:/bin", "PGDATA=/var/lib/postgresql/data/db", "HOME=/tmp", "LANG=C"},
			Mounts: []sandbox.Mount{{Source: data, Target: "/var/lib/postgresql/data"}},
			Command: []string{"sh", "-c", "initdb -U postgres -A trust >/dev/null && echo 'host all all all trust' >> $PGDATA/pg_hba.conf && " +
				"exec postgres -c listen_addresses='*' -c unix_socket_directories=/tmp"},
			Stdout: &log, Stderr: &log})
		t.Cleanup(func() { t.Log(log.String()) })
		l.answers(t, pg, "psql -h "+ns.Addrs[0].String()+" -U postgres -tc 'select 40 + 2'", "42")
		l.answers(t, pg, "psql -h "+ns.Addrs[1].String()+" -U postgres -tc 'create table x(y int); insert into x values (7); select y from x'", "7")
	})
}

// TestNames: a pod's own resolver, both kinds of it.
func TestNames(t *testing.T) {
	everywhere(t, func(t *testing.T, l *lab) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var listen []netip.AddrPort
		for _, a := range l.net.Config().Node() {
			listen = append(listen, netip.AddrPortFrom(a, 53))
		}
		server, err := dns.Start(ctx, dns.Config{Listen: listen})
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		db := l.pod(t, "db-0")
		ext, err := l.net.AddExternal("api", []netip.Addr{netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("2001:db8::10")})
		if err != nil {
			t.Fatal(err)
		}
		server.SetRecords(dns.Records{
			Services: []dns.Service{
				{Namespace: "bank", Name: "loans", Addrs: []netip.Addr{netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("fd00:10:96::10")}},
				{Namespace: "bank", Name: "v4", Addrs: []netip.Addr{netip.MustParseAddr("10.96.0.11")}},
				{Namespace: "bank", Name: "db", Addrs: db.Addrs, Hosts: map[string][]netip.Addr{"db-0": db.Addrs}},
			},
			Static: map[string][]netip.Addr{"api.example.com": ext.Addrs},
		})
		conf := volume(t, l, "resolv", map[string]string{"resolv.conf": dns.ResolvConf(l.net.Config().Node(), "bank")})
		p := l.idle(t, sandbox.Spec{Name: "caller", Network: l.pod(t, "caller").File(), User: sandbox.User{UID: 1000, GID: 1000},
			Mounts: []sandbox.Mount{{Source: filepath.Join(conf, "resolv.conf"), Target: "/etc/resolv.conf", ReadOnly: true}}})
		for _, name := range []string{"loans", "loans.bank", "loans.bank.svc", "loans.bank.svc.cluster.local", "loans.bank.svc.cluster.local."} {
			l.want(t, p, "getent ahostsv4 "+name+" | cut -d' ' -f1 | sort -u", "10.96.0.10")
			l.want(t, p, "getent ahostsv6 "+name+" | cut -d' ' -f1 | sort -u", "fd00:10:96::10")
		}
		l.want(t, p, "getent ahosts v4 | cut -d' ' -f1 | sort -u", "10.96.0.11")
		l.want(t, p, "getent ahostsv4 db-0.db | cut -d' ' -f1 | sort -u", db.Addrs[0].String())
		l.want(t, p, "getent ahostsv4 api.example.com | cut -d' ' -f1 | sort -u", "192.0.2.10")
		l.want(t, p, "getent ahosts nope; echo $?; getent ahosts www.example.org; echo $?", "2\n2")
	})
}

// TestServiceFromContainer is the whole way once: name, ClusterIP, endpoint,
// and back to the pod itself.
func TestServiceFromContainer(t *testing.T) {
	installed(t, "python3")
	everywhere(t, func(t *testing.T, l *lab) {
		ns := l.pod(t, "web")
		files := volume(t, l, "www", map[string]string{"index.html": "through the service"})
		web := l.start(t, sandbox.Spec{Name: "web", Network: ns.File(), WorkDir: "/www",
			Command: []string{"python3", "-m", "http.server", "8080", "--bind", "::"},
			Mounts:  []sandbox.Mount{{Source: files, Target: "/www"}}})
		err := l.net.SetServices([]network.ServicePort{
			{IP: netip.MustParseAddr("10.96.0.10"), Port: 80, Endpoints: []netip.AddrPort{netip.AddrPortFrom(ns.Addrs[0], 8080)}},
			{IP: netip.MustParseAddr("fd00:10:96::10"), Port: 80, Endpoints: []netip.AddrPort{netip.AddrPortFrom(ns.Addrs[1], 8080)}},
		})
		if err != nil {
			t.Fatal(err)
		}
		c := l.caller(t)
		for _, url := range []string{"http://10.96.0.10", "http://[fd00:10:96::10]"} {
			l.answers(t, c, get(url), "through the service")
			l.answers(t, web, get(url), "through the service")
		}
	})
}
