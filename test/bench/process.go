package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// userHertz is the unit of CPU times in /proc: 100 a second on every Linux of today.
const userHertz = 100

// cpuTime is what a process has used, user and system.
func cpuTime(pid int) (time.Duration, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The command's name may have spaces; fields are counted from behind it.
	_, rest, _ := strings.Cut(string(raw[bytes.LastIndexByte(raw, ')'):]), " ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	var ticks int
	for _, f := range fields[11:13] { // utime, stime
		n, err := strconv.Atoi(f)
		if err != nil {
			return 0, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / userHertz, nil
}

// memory of a process in MB: what is resident, its share of what is shared, what it has alone, and what is of no file.
type memory struct{ rss, pss, private, anonymous float64 }

func memoryOf(pid int) (memory, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return memory{}, err
	}
	var m memory
	for line := range strings.Lines(string(raw)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		kb, err := strconv.ParseFloat(f[1], 64)
		if err != nil {
			continue // the header
		}
		switch f[0] {
		case "Rss:":
			m.rss += kb / 1024
		case "Pss:":
			m.pss += kb / 1024
		case "Private_Clean:", "Private_Dirty:":
			m.private += kb / 1024
		case "Anonymous:":
			m.anonymous += kb / 1024
		}
	}
	return m, nil
}

// descendants gives the processes below those whose command line has all the words, by program.
func descendants(words ...string) (map[string][]int, error) {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	names, children, inside := map[int]string{}, map[int][]int{}, map[int]bool{}
	var todo []int
	for _, file := range files {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			return nil, err
		}
		raw, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		args := strings.Split(string(raw), "\x00")
		names[pid] = filepath.Base(args[0])
		if parent, ok := parentOf(pid); ok {
			children[parent] = append(children[parent], pid)
		}
		all := true
		for _, w := range words {
			all = all && slices.Contains(args, w)
		}
		if all {
			todo = append(todo, pid)
		}
	}
	out := map[string][]int{}
	for len(todo) > 0 {
		pid := todo[0]
		todo = todo[1:]
		if !inside[pid] {
			inside[pid] = true
			out[names[pid]] = append(out[names[pid]], pid)
			todo = append(todo, children[pid]...)
		}
	}
	return out, nil
}

func parentOf(pid int) (int, bool) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false
	}
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	if len(fields) < 2 {
		return 0, false
	}
	parent, err := strconv.Atoi(fields[1])
	return parent, err == nil
}

// until asks every few milliseconds whether something holds, for at most 60 s.
func until(ctx context.Context, what string, holds func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.New("not within a minute: " + what)
		}
	}
	return nil
}

// peakOf is the most MB that a process has had resident.
func peakOf(pid int) (float64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "VmHWM:" {
			kb, err := strconv.ParseFloat(f[1], 64)
			return kb / 1024, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/status has no VmHWM", pid)
}
