package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// lab is the command line of meshd.
type lab struct{ bin string }

// pod is a line of `meshd lab status -o json`.
type pod struct {
	Namespace, Name, Owner, Address, Phase string
	Ready                                  bool
}

type labStatus struct {
	Pods     []pod
	Gateways []struct {
		Namespace, Name, Address string
		Ports                    []int
	}
	Proxies []proxy
}

type proxy struct {
	Name, Identity     string
	Synced             bool
	CertificateExpires time.Time
	Connected          time.Time
	Types              []struct {
		Type, Version, Acknowledged string
		Rejected                    []any
	}
}

// run gives what a meshd command prints; its error has what it said on stderr.
func (l *lab) run(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(l.bin, "meshd"), args...) // our own binary
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("meshd %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}

func (l *lab) status(ctx context.Context) (labStatus, error) {
	out, err := l.run(ctx, "lab", "status", "-o", "json")
	if err != nil {
		return labStatus{}, err
	}
	var s labStatus
	return s, json.Unmarshal([]byte(out), &s)
}

// exec runs a command in a pod: NAMESPACE/NAME or NAMESPACE/deploy/NAME.
func (l *lab) exec(ctx context.Context, where string, command ...string) (string, error) {
	ns, name, _ := strings.Cut(where, "/")
	return l.run(ctx, append([]string{"lab", "exec", "-n", ns, name, "--"}, command...)...)
}

// answer is what a request brought: code 0 is no answer.
type answer struct {
	code int
	body string
}

// String is the answer in a line of a table.
func (a answer) String() string {
	body := strings.TrimSpace(a.body)
	var from struct{ Pod string }
	switch {
	case a.code == 0:
		return "no answer:" + body[strings.LastIndex(body, ":")+1:]
	case json.Unmarshal([]byte(body), &from) == nil && from.Pod != "":
		return fmt.Sprintf("%d from %s", a.code, from.Pod)
	case len(body) > 100:
		body = body[:100] + "..."
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s", a.code, body))
}

// get asks from a pod.
func (l *lab) get(ctx context.Context, from, url string, flags ...string) (answer, error) {
	out, err := l.exec(ctx, from, append([]string{"eazybank", "get", url}, flags...)...)
	if err != nil {
		return answer{}, err
	}
	code, body, _ := strings.Cut(out, " ")
	n, err := strconv.Atoi(code)
	return answer{n, body}, err
}

// apply gives the lab documents to apply or to delete.
func (l *lab) apply(ctx context.Context, verb, yaml string) error {
	f, err := os.CreateTemp("", "demo-*.yaml")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	if _, err := f.WriteString(yaml); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	_, err = l.run(ctx, "lab", verb, "-f", f.Name())
	return err
}

// until tries again until a condition holds, for at most 20 s.
func until(ctx context.Context, holds func() (bool, string, error)) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, saw, err := holds()
		if ok || (err != nil && ctx.Err() == nil) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.New("not within 20 s: " + saw)
		}
	}
}

func want(got answer, err error, code int, contains string) (string, error) {
	if err != nil {
		return "", err
	}
	if got.code != code || !strings.Contains(got.body, contains) {
		return "", fmt.Errorf("got %s, want %d %q", got, code, contains)
	}
	return got.String(), nil
}
