package integration

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/meshd-io/meshd/pkg/lab"
)

func restartFeatures() []feature {
	return []feature{{name: "meshd killed while a first connection waits", manifest: fresh("http", 7361), test: testRestart}}
}

func testRestart(w *world) {
	meshd := w.meshdProcess()
	// A meshd that stands still: the proxy accepts the connection, and asks in vain what is behind its address.
	if err := syscall.Kill(meshd, syscall.SIGSTOP); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = syscall.Kill(meshd, syscall.SIGKILL) }) // if it still stands
	connected, out, done := make(chan struct{}), &bytes.Buffer{}, make(chan error, 1)
	go func() {
		_, err := w.Exec(w.Context(), w.in(client), []string{"app", "get", "-tell", "http://new." + w.ns + ":7361/x"},
			lab.Streams{Out: out, Err: onWrite(sync.OnceFunc(func() { close(connected) }))})
		done <- err
	}()
	select {
	case <-connected:
	case err := <-done:
		w.Fatalf("answered without meshd: %v: %s", err, out)
	}
	if err := syscall.Kill(meshd, syscall.SIGKILL); err != nil {
		w.Fatal(err)
	}
	if err := <-done; err != nil {
		w.Fatal(err)
	}
	var a httpAnswer
	if err := json.Unmarshal(out.Bytes(), &a); err != nil {
		w.Fatalf("%v: %s", err, out)
	}
	w.meshed(a, clientID)
	if again := w.meshdProcess(); again == meshd {
		w.Error("it was not killed")
	}
	w.meshed(w.get(client, "http://server/x"), clientID)
}

// onWrite does something whenever it is written to.
type onWrite func()

func (f onWrite) Write(p []byte) (int, error) {
	f()
	return len(p), nil
}

// meshdProcess is the lab's meshd, by its configuration's folder.
func (w *world) meshdProcess() int {
	w.Helper()
	return w.process("meshd", func(args []string) bool {
		return len(args) > 3 && args[1] == "serve" && args[3] == filepath.Join(w.dir, "config")
	})
}

// process is the one whose arguments are so.
func (w *world) process(what string, is func(args []string) bool) int {
	w.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		w.Fatal(err)
	}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil || !is(strings.Split(string(raw), "\x00")) {
			continue // another, or one that has ended
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		if err != nil {
			w.Fatal(err)
		}
		return pid
	}
	w.Fatalf("no %s runs in the lab", what)
	return 0
}

// testProxyKilled: the sidecar is started again, and all is as before.
func testProxyKilled(w *world) {
	url := "http://new." + w.ns + ":7362/x"
	w.meshed(w.get(client, url), clientID)
	pid := w.process("proxy", func(args []string) bool {
		return slices.ContainsFunc(args, func(a string) bool { return strings.Contains(a, `"sidecar~`+w.ns+`/`) })
	})
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		w.Fatal(err)
	}
	var a httpAnswer
	w.eventually("the proxy is started again", func() bool {
		a = w.get(client, url)
		p := w.pod(w.ns, "new-")
		return a.Code == 200 && slices.ContainsFunc(p.Containers, func(c lab.ContainerStatus) bool {
			return c.Name == "meshd-proxy" && c.Restarts == 1 && c.Ready
		})
	}, func() string { return a.Error + a.Body })
	w.meshed(a, clientID)
}

// testManyAtOnce: one question, and an answer for each connection that waits for it.
func testManyAtOnce(w *world) {
	var group sync.WaitGroup
	answers := make(chan httpAnswer, 20)
	for range cap(answers) {
		group.Go(func() {
			var out bytes.Buffer
			var a httpAnswer
			_, err := w.Exec(w.Context(), w.in(client), []string{"app", "get", "http://new." + w.ns + ":7363/x"}, lab.Streams{Out: &out, Err: io.Discard})
			if err == nil {
				err = json.Unmarshal(out.Bytes(), &a)
			}
			if err != nil {
				a.Error = err.Error()
			}
			answers <- a
		})
	}
	group.Wait()
	close(answers)
	for a := range answers {
		w.meshed(a, clientID)
	}
}
