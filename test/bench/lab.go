package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// lab is a lab of its own, beside one that may run already.
type lab struct{ bin, state string }

func (l lab) run(ctx context.Context, args ...string) ([]byte, error) {
	args = append([]string{"lab", args[0], "--state-dir", l.state}, args[1:]...)
	cmd := exec.CommandContext(ctx, filepath.Join(l.bin, "meshd"), args...) // our own binary
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("meshd %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(errs.Bytes()))
	}
	return out.Bytes(), nil
}

// withLab does something in a lab of its own that runs the objects of a path; up is how long it took to start.
func withLab(ctx context.Context, bin, path string, do func(l lab, up time.Duration) error) (err error) {
	dir, err := os.MkdirTemp("", "meshd-bench-")
	if err != nil {
		return err
	}
	l := lab{bin, filepath.Join(dir, "lab")}
	defer func() {
		_, down := l.run(context.WithoutCancel(ctx), "down") // also when ctx is over
		err = errors.Join(err, down, os.RemoveAll(dir))
	}()
	began := time.Now()
	if _, err := l.run(ctx, "up", "-f", path); err != nil {
		return err
	}
	return do(l, time.Since(began))
}

// labFigures are those of whole processes, in the example's mesh.
func labFigures(ctx context.Context, bin string) (out []figure, err error) {
	const group = "lab with examples/eazybank"
	err = withLab(ctx, bin, "examples/eazybank", func(l lab, up time.Duration) error {
		out = append(out, figure{group, "meshd lab up, until all is in force", up.Seconds(), "s", "5 proxies"})
		for _, p := range []struct{ program, words, what string }{
			{"meshd", "\x00serve\x00", "meshd"}, {"meshd-agent", "", "meshd-agent"}, {"envoy", "", "Envoy"},
		} {
			m, err := l.largest(p.program, p.words)
			if err != nil {
				return err
			}
			note := fmt.Sprintf("PSS %.1f, private %.1f; the largest of its kind", m.pss, m.private)
			out = append(out, figure{group, "RSS of " + p.what + ", idle", m.rss, "MB", note})
		}
		return nil
	})
	return out, err
}

// demoTime is that of examples/eazybank/demo; building it is not counted.
func demoTime(ctx context.Context, bin string) ([]figure, error) {
	began := time.Now()
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "demo"), "-bin", bin) // our own binary
	if raw, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, raw)
	}
	return []figure{{"demo", "from up to down", time.Since(began).Seconds(), "s", "all rows, rotation and restart under load included"}}, nil
}

// largest is the memory of the process of the lab that has most for itself, of
// those of a program that have certain words among their arguments.
func (l lab) largest(program, words string) (memory, error) {
	all, err := descendants("lab", "daemon", l.state)
	if err != nil {
		return memory{}, err
	}
	var most memory
	for _, pid := range all[program] {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil || !strings.Contains(string(raw), words) {
			continue // it has ended, or is another's
		}
		if m, err := memoryOf(pid); err == nil && m.private > most.private {
			most = m
		}
	}
	if most.rss == 0 {
		return memory{}, fmt.Errorf("no process %s %q", program, words)
	}
	return most, nil
}
