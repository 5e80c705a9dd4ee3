package sandbox_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/meshd-io/meshd/pkg/lab/network"
	"github.com/meshd-io/meshd/pkg/lab/sandbox"
)

// runIdle is a daemon with two pods and a container in each.
func runIdle() int {
	s, err := sandbox.Open()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	n, err := network.New(network.DefaultConfig())
	if err != nil {
		fmt.Println(err)
		return 1
	}
	for _, name := range []string{"a", "b"} {
		ns, err := n.AddPod(name, nil)
		if err == nil {
			_, err = s.Start(sandbox.Spec{Name: name, Network: ns.File(), Command: []string{"sleep", "infinity"}})
		}
		if err != nil {
			fmt.Println(err)
			return 1
		}
	}
	fmt.Println("ready")
	select {}
}

// machine is what a lab could leave behind.
type machine struct {
	links  []string
	mounts string
}

func look(t *testing.T) machine {
	t.Helper()
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	m := machine{}
	for _, l := range links {
		m.links = append(m.links, l.Name)
	}
	raw, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	m.mounts = string(raw)
	return m
}

// children lists a process's descendants as the machine sees them.
func descendants(t *testing.T, of int) []int {
	t.Helper()
	parents := map[int]int{}
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(d))
		if _, ppid, ok := stat(pid); ok {
			parents[pid] = ppid
		}
	}
	out := []int{of}
	for i := 0; i < len(out); i++ {
		for pid, ppid := range parents {
			if ppid == out[i] {
				out = append(out, pid)
			}
		}
	}
	return out
}

// stat reads a process's state and parent.
func stat(pid int) (state string, ppid int, ok bool) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0, false
	}
	f := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
	ppid, err = strconv.Atoi(f[1])
	return f[0], ppid, err == nil
}

func statesOfChildrenOf1(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, pid := range descendants(t, 1) {
		if state, ppid, ok := stat(pid); ok && ppid == 1 {
			out = append(out, state)
		}
	}
	return out
}

// orphan leaves a short-lived process behind.
func orphan(t *testing.T) {
	t.Helper()
	if out, err := exec.Command("sh", "-c", "sleep 0.05 >/dev/null & echo $!").Output(); err != nil || len(out) == 0 {
		t.Fatal(err)
	}
}

// TestNothingStays kills a lab in every way and looks for what is left.
func TestNothingStays(t *testing.T) {
	for name, end := range map[string]func(h sandbox.Handle, daemon int) error{
		"kill PID 1":      func(h sandbox.Handle, _ int) error { return syscall.Kill(h.PID, syscall.SIGKILL) },
		"kill the daemon": func(_ sandbox.Handle, daemon int) error { return syscall.Kill(daemon, syscall.SIGKILL) },
		"stop":            func(h sandbox.Handle, _ int) error { return h.Stop(context.Background()) },
		"stop by force": func(h sandbox.Handle, _ int) error {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			return h.Stop(ctx)
		},
	} {
		t.Run(name, func(t *testing.T) {
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			before := look(t)
			h, log := startPart(t, partIdle, true)
			waitUntil(t, "the daemon is ready", func() bool {
				raw, _ := os.ReadFile(log)
				return strings.Contains(string(raw), "ready\n")
			})
			const all = 4 // PID 1, daemon, two containers
			pids := descendants(t, h.PID)
			if len(pids) != all || h.HostLink == "" || slices.Equal(look(t).links, before.links) {
				t.Fatalf("not a lab: processes %v, %+v", pids, h)
			}
			if now := look(t); now.mounts != before.mounts {
				t.Errorf("the machine sees the lab's mounts:\n%s", now.mounts)
			}
			if err := end(h, pids[1]); err != nil {
				t.Fatal(err)
			}
			waitUntil(t, "no process, no link", func() bool {
				return !slices.ContainsFunc(pids, exists) && slices.Equal(look(t).links, before.links)
			})
			if h.Alive() {
				t.Error("still alive")
			}
			if err := h.Stop(t.Context()); err != nil {
				t.Errorf("stop of a lab that is gone: %v", err)
			}
			if left, err := os.ReadDir(filepath.Join(filepath.Dir(log), "private")); err != nil || len(left) != 0 {
				t.Errorf("files stay: %v, %v", left, err)
			}
		})
	}
}

func exists(pid int) bool { return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

// TestHandle survives as JSON and is not fooled by a PID of another process.
func TestHandle(t *testing.T) {
	h, _ := startPart(t, partIdle, false)
	raw, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	var again sandbox.Handle
	if err := json.Unmarshal(raw, &again); err != nil || again != h || !again.Alive() {
		t.Errorf("%s: %+v, %v", raw, again, err)
	}
	other := sandbox.Handle{PID: os.Getpid(), StartTicks: h.StartTicks + 1}
	if other.Alive() {
		t.Error("took this test for a lab")
	}
	if err := other.Stop(t.Context()); err != nil { // must not end this test
		t.Error(err)
	}
}

func TestStartFails(t *testing.T) {
	before := look(t)
	cfg := network.DefaultConfig()
	first, _ := startPart(t, partIdle, true)
	_, err := sandbox.Start(t.Context(), sandbox.Options{Dir: labDir(t), Args: []string{"x"}, Network: cfg, HostLink: true})
	if err == nil || !strings.Contains(err.Error(), "choose other ranges") {
		t.Errorf("a second host link: %v", err)
	}
	if err := first.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(labDir(t), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sandbox.Start(t.Context(), sandbox.Options{Dir: file}); err == nil || !strings.Contains(err.Error(), "lab's directory") {
		t.Errorf("a file as directory: %v", err)
	}
	if after := look(t); !slices.Equal(before.links, after.links) || before.mounts != after.mounts {
		t.Errorf("before %v, after %v", before, after)
	}
}

// TestOpenElsewhere: only a lab's daemon has a Sandbox.
func TestOpenElsewhere(t *testing.T) {
	cmd := exec.Command("/proc/self/exe", "-test.run=^$")
	cmd.Env = append(os.Environ(), partEnv+"="+partIdle)
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "was not started by a lab") {
		t.Errorf("%v: %s", err, out)
	}
}
