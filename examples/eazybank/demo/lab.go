package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// onLab is the mesh of a lab that is up, by the command line of meshd.
func onLab(bin string) *mesh {
	m := &mesh{command: []string{filepath.Join(bin, "meshd"), "lab"}}
	m.status = func(ctx context.Context) (status, error) {
		out, err := run(ctx, m.command, "status", "-o", "json")
		if err != nil {
			return status{}, err
		}
		var s status
		return s, json.Unmarshal([]byte(out), &s)
	}
	m.kill = func(context.Context) error { return killMeshd(m.command[0]) }
	m.metrics = func(ctx context.Context) (string, error) {
		got, err := m.get(ctx, client, "http://meshd.meshd-system:15014/metrics")
		if err == nil && got.code != http.StatusOK {
			err = fmt.Errorf("meshd's metrics: %s", got)
		}
		return got.body, err
	}
	return m
}

// killMeshd ends the demo's lab's `meshd serve`, which was started from this binary.
func killMeshd(binary string) error {
	found, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return err
	}
	killed := 0
	for _, path := range found {
		cmdline, err := os.ReadFile(path) // /proc
		if err != nil {
			continue // it has ended meanwhile
		}
		args := strings.Split(string(cmdline), "\x00")
		if len(args) < 4 || args[0] != binary || args[1] != "serve" || !strings.HasPrefix(filepath.Base(filepath.Dir(args[3])), "meshd-lab") {
			continue // not serve --config LAB/config
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return err
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			return fmt.Errorf("kill meshd: %w", err)
		}
		killed++
	}
	if killed == 0 {
		return errors.New("no running meshd found")
	}
	return nil
}
