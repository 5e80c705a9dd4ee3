package integration

import (
	"os/exec"
	"path/filepath"
	"strings"
)

// serverFeatures are servers that nobody here wrote, behind Strict.
func serverFeatures() []feature {
	return []feature{
		{name: "python", test: func(w *world) {
			w.installed("python3")
			w.apply(thirdParty("http", 8000, `[python3, -m, http.server, "8000", --bind, "::", --directory, /srv]`))
			if a := w.get(client, "http://it."+w.ns+":8000/hello.txt"); a.Code != 200 || a.Body != "hello from a file\n" {
				w.Errorf("%+v", a)
			}
			w.refusesStrangers(8000)
		}},
		{name: "nginx", test: func(w *world) {
			w.installed("nginx")
			w.apply(thirdParty("http", 80, `[nginx, -c, /srv/nginx.conf]`))
			if a := w.get(client, "http://it."+w.ns+"/"); a.Code != 200 || !strings.Contains(a.Body, "HTTP/1.1 from nginx") {
				w.Errorf("%+v", a)
			}
			w.refusesStrangers(80)
		}},
		{name: "redis", test: func(w *world) {
			w.installed("redis-server")
			w.apply(thirdParty("redis", 6379, `[redis-server, --protected-mode, "no", --dir, /tmp, --save, ""]`))
			a := w.tcp(client, "-send", "SET x 42\r\nGET x\r\nQUIT\r\n", "it."+w.ns+":6379")
			if a.Received != "+OK\r\n$2\r\n42\r\n+OK\r\n" {
				w.Errorf("%+v", a)
			}
			w.refusesStrangers(6379)
		}},
		{name: "postgres", test: testPostgres},
	}
}

// installed skips a test whose server this machine has not.
func (w *world) installed(program string) {
	w.Helper()
	if _, err := exec.LookPath(program); err != nil {
		w.Skipf("NOT TESTED: %s is not installed", program)
	}
}

func (w *world) refusesStrangers(port int) {
	w.Helper()
	if a := w.tcp(outsider, "-send", "PING\r\n\r\n", "it."+w.ns+":"+itoa(port)); a.Received != "" {
		w.Errorf("a stranger gets in: %+v", a)
	}
}

func thirdParty(portName string, port int, command string) string {
	return strings.NewReplacer("PORTNAME", portName, "PORT", itoa(port), "COMMAND", command).Replace(`
apiVersion: v1
kind: ConfigMap
metadata: {name: files, namespace: NS}
data:
  hello.txt: |
    hello from a file
  nginx.conf: |
    worker_processes 1; daemon off; error_log /dev/stderr; user www-data; pid /tmp/nginx.pid;
    events {}
    http { access_log off; server { listen 80; listen [::]:80; location / { return 200 "$server_protocol from nginx\n"; } } }
---
apiVersion: v1
kind: Service
metadata: {name: it, namespace: NS}
spec: {selector: {app: it}, ports: [{name: PORTNAME, port: PORT}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: it, namespace: NS}
spec:
  selector: {matchLabels: {app: it}}
  template:
    metadata: {labels: {app: it}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
      - name: it
        image: any
        command: COMMAND
        readinessProbe: {tcpSocket: {port: PORT}, periodSeconds: 1, failureThreshold: 60}
        volumeMounts: [{name: files, mountPath: /srv}]
      volumes: [{name: files, configMap: {name: files}}]
`)
}

// testPostgres: the server runs as a user of its own, and psql in a pod of the mesh asks it.
func testPostgres(w *world) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil || len(found) == 0 {
		w.Skip("NOT TESTED: postgres is not installed")
	}
	bin := filepath.Dir(found[len(found)-1])
	yaml := thirdParty("postgres", 5432, `[sh, -c, "initdb -U postgres -A trust >/dev/null && echo 'host all all all trust' >> $PGDATA/pg_hba.conf && exec postgres -c listen_addresses='*' -c unix_socket_directories=/tmp"]`)
	yaml = strings.Replace(yaml, "        image: any\n", `        image: any
        securityContext: {runAsUser: 999, runAsGroup: 999}
        env: [{name: PATH, value: "`+bin+`:/usr/bin:/bin"}, {name: PGDATA, value: /data/db}, {name: HOME, value: /tmp}, {name: LANG, value: C}]
`, 1)
	yaml = strings.Replace(yaml, "volumeMounts: [", "volumeMounts: [{name: data, mountPath: /data}, ", 1)
	yaml = strings.Replace(yaml, "volumes: [", "volumes: [{name: data, emptyDir: {}}, ", 1)
	w.apply(yaml)
	out, code := w.exec(client, filepath.Join(bin, "psql"), "-h", "it."+w.ns, "-U", "postgres", "-Atc",
		"create table x(y int); insert into x values (7); select sum(y) + 35 from x")
	if code != 0 || !strings.Contains(out, "42") {
		w.Errorf("exit %d: %s", code, out)
	}
	w.refusesStrangers(5432)
}
