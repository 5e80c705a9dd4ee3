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
	"slices"
	"strconv"
	"strings"
	"time"
)

// mesh is where the bank runs: a lab, or a cluster.
type mesh struct {
	// command is "meshd lab" or "kubectl": both know exec, logs, apply and delete.
	command []string
	// newest are the flags of logs that leave out what was before the demo.
	newest []string
	// status is what there is now.
	status func(context.Context) (status, error)
	// kill ends every running meshd at once.
	kill func(context.Context) error
	// metrics are those of every meshd.
	metrics func(context.Context) (string, error)
}

type status struct {
	Pods     []pod
	Gateways []gateway
	Proxies  []proxy
}

// pod is a line of `meshd lab status -o json`.
type pod struct {
	Namespace, Name, Owner, Address, Phase string
	Ready                                  bool
}

type gateway struct{ Namespace, Name, Address string }

type proxy struct {
	Name, Identity     string
	Synced             bool
	CertificateExpires time.Time
	Connected          time.Time
}

// run gives what a command prints; its error has what it said on stderr.
func run(ctx context.Context, command []string, args ...string) (string, error) {
	args = append(slices.Clone(command[1:]), args...)
	cmd := exec.CommandContext(ctx, command[0], args...) // our own binary, or kubectl
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w: %s", filepath.Base(command[0]), strings.Join(args, " "), err, strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}

// exec runs a command in a pod: NAMESPACE/NAME or NAMESPACE/deploy/NAME.
func (m *mesh) exec(ctx context.Context, where string, command ...string) (string, error) {
	ns, name, _ := strings.Cut(where, "/")
	return run(ctx, m.command, append([]string{"exec", "-n", ns, name, "--"}, command...)...)
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
func (m *mesh) get(ctx context.Context, from, url string, flags ...string) (answer, error) {
	out, err := m.exec(ctx, from, append([]string{"eazybank", "get", url}, flags...)...)
	if err != nil {
		return answer{}, err
	}
	code, body, _ := strings.Cut(out, " ")
	n, err := strconv.Atoi(code)
	return answer{n, body}, err
}

// apply gives the mesh documents to apply or to delete.
func (m *mesh) apply(ctx context.Context, verb, yaml string) error {
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
	_, err = run(ctx, m.command, verb, "-f", f.Name())
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
