package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"os"

	"k8s.io/apimachinery/pkg/types"

	"github.com/meshd-io/meshd/pkg/lab/sandbox"
)

const upgradeProtocol = "meshd-lab-exec"

// execRequest is what `exec` sends before the streams.
type execRequest struct {
	Namespace string   `json:"namespace"`
	Pod       string   `json:"pod"`
	Container string   `json:"container"`
	Command   []string `json:"command"`
}

func (d *daemon) handleExec(w http.ResponseWriter, r *http.Request) {
	var req execRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest)).Decode(&req); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	p, err := d.pod(req.Namespace, req.Pod)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	if len(req.Command) == 0 {
		http.Error(w, "no command", http.StatusBadRequest)
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + upgradeProtocol + "\r\n\r\n")); err != nil {
		return
	}
	frames := &frameWriter{w: conn}
	exit, err := d.runExec(buffered.Reader, frames, execTarget{uid: string(p.UID), req: req})
	last := exitMessage{Code: exit.Code}
	if err != nil {
		last.Error = err.Error()
	}
	raw, err := json.Marshal(last)
	if err != nil {
		return
	}
	if err := frames.write(streamExit, raw); err != nil {
		d.log.Debug("exec: the client is gone", "error", err)
	}
}

type execTarget struct {
	uid string
	req execRequest
}

// runExec runs the command until it ends, or the client is gone.
func (d *daemon) runExec(from *bufio.Reader, frames *frameWriter, t execTarget) (sandbox.Exit, error) {
	ctx, cancel := context.WithCancel(d.closing)
	defer cancel()
	// A pipe, not the connection: a command that ends without reading its input is not waited for.
	in, feed, err := os.Pipe()
	if err != nil {
		return sandbox.Exit{}, err
	}
	go func() { // it ends with the connection
		defer cancel()
		d.feed(from, feed)
	}()
	exit, err := d.kubelet.Exec(ctx, types.UID(t.uid), t.req.Container, sandbox.ExecSpec{
		Command: t.req.Command, Stdin: in,
		Stdout: streamWriter{frames, streamStdout}, Stderr: streamWriter{frames, streamStderr},
	})
	if cerr := in.Close(); cerr != nil {
		d.log.Debug("exec: stdin", "error", cerr)
	}
	return exit, err
}

// feed copies the client's input until the connection ends.
func (d *daemon) feed(from *bufio.Reader, to *os.File) {
	open := true
	closeInput := func() {
		if open {
			open = false
			if err := to.Close(); err != nil {
				d.log.Debug("exec: stdin", "error", err)
			}
		}
	}
	defer closeInput()
	for {
		stream, data, err := readFrame(from)
		if err != nil || stream != streamStdin {
			return
		}
		if len(data) == 0 {
			closeInput()
		} else if open {
			if _, err := to.Write(data); err != nil {
				closeInput() // the command reads no more
			}
		}
	}
}
