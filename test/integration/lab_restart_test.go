package integration

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
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
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		w.Fatal(err)
	}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			continue // it has ended
		}
		args := bytes.Split(raw, []byte{0})
		if len(args) > 3 && string(args[1]) == "serve" && string(args[3]) == filepath.Join(w.dir, "config") {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f)))
			if err != nil {
				w.Fatal(err)
			}
			return pid
		}
	}
	w.Fatal("no meshd runs in the lab")
	return 0
}
