package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// The control plane's pods in a cluster.
const (
	systemNamespace = "meshd-system"
	controlPlane    = "app.kubernetes.io/name=meshd,app.kubernetes.io/component=control-plane"
	metricsPort     = 15014
	debugPort       = "15016"
)

// onCluster is the mesh of the cluster that a kubectl talks to.
func onCluster(kubectl string) *mesh {
	m := &mesh{command: []string{kubectl}, newest: []string{"--since-time=" + time.Now().UTC().Format(time.RFC3339)}}
	m.status = m.clusterStatus
	m.kill = func(ctx context.Context) error {
		_, err := run(ctx, m.command, "delete", "pods", "-n", systemNamespace, "-l", controlPlane, "--force", "--grace-period=0")
		return err
	}
	m.metrics = func(ctx context.Context) (string, error) {
		pods, err := m.pods(ctx, "-n", systemNamespace, "-l", controlPlane)
		if err != nil {
			return "", err
		}
		var all strings.Builder
		for _, p := range pods {
			got, err := m.get(ctx, client, fmt.Sprintf("http://%s:%d/metrics", p.Address, metricsPort))
			if err != nil {
				return "", err
			}
			if got.code != http.StatusOK {
				return "", fmt.Errorf("metrics of %s: %s", p.Name, got)
			}
			all.WriteString(got.body)
		}
		return all.String(), nil
	}
	return m
}

func (m *mesh) clusterStatus(ctx context.Context) (status, error) {
	var s status
	var err error
	if s.Pods, err = m.pods(ctx, "--all-namespaces"); err != nil {
		return s, err
	}
	if s.Gateways, err = m.ingresses(ctx); err != nil {
		return s, err
	}
	for _, p := range s.Pods {
		if p.Namespace == systemNamespace && p.Owner == "deploy/meshd" && p.Ready {
			proxies, err := m.proxiesOf(ctx, p.Name)
			if err != nil {
				return s, err
			}
			s.Proxies = append(s.Proxies, proxies...)
		}
	}
	return s, nil
}

// list gives what kubectl knows of a kind.
func (m *mesh) list(ctx context.Context, into any, kind string, flags ...string) error {
	out, err := run(ctx, m.command, append([]string{"get", kind, "-o", "json"}, flags...)...)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(out), into)
}

// pods are those that are not on their way out.
func (m *mesh) pods(ctx context.Context, flags ...string) ([]pod, error) {
	var list struct {
		Items []struct {
			Metadata struct {
				Namespace, Name   string
				DeletionTimestamp *string
				OwnerReferences   []struct{ Kind, Name string }
			}
			Status struct {
				PodIP, Phase string
				Conditions   []struct{ Type, Status string }
			}
		}
	}
	if err := m.list(ctx, &list, "pods", flags...); err != nil {
		return nil, err
	}
	var pods []pod
	for _, i := range list.Items {
		if i.Metadata.DeletionTimestamp != nil {
			continue
		}
		p := pod{Namespace: i.Metadata.Namespace, Name: i.Metadata.Name, Address: i.Status.PodIP, Phase: i.Status.Phase}
		for _, o := range i.Metadata.OwnerReferences {
			if o.Kind == "ReplicaSet" { // DEPLOYMENT-HASH
				p.Owner = "deploy/" + o.Name[:max(strings.LastIndexByte(o.Name, '-'), 0)]
			}
		}
		p.Ready = slices.ContainsFunc(i.Status.Conditions, func(c struct{ Type, Status string }) bool {
			return c.Type == "Ready" && c.Status == "True"
		})
		pods = append(pods, p)
	}
	return pods, nil
}

// ingresses are the addresses that Ingresses have been given, each once.
func (m *mesh) ingresses(ctx context.Context) ([]gateway, error) {
	var list struct {
		Items []struct {
			Metadata struct{ Namespace, Name string }
			Status   struct {
				LoadBalancer struct{ Ingress []struct{ IP string } }
			}
		}
	}
	if err := m.list(ctx, &list, "ingresses", "-n", "bank"); err != nil {
		return nil, err
	}
	var out []gateway
	for _, i := range list.Items {
		for _, at := range i.Status.LoadBalancer.Ingress {
			if !slices.ContainsFunc(out, func(g gateway) bool { return g.Address == at.IP }) {
				out = append(out, gateway{i.Metadata.Namespace, i.Metadata.Name, at.IP})
			}
		}
	}
	return out, nil
}

// proxiesOf asks one meshd who is connected to it, through a port that only kubectl can forward.
func (m *mesh) proxiesOf(ctx context.Context, meshd string) ([]proxy, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, m.command[0], "port-forward", "-n", systemNamespace, "pod/"+meshd, ":"+debugPort) // kubectl
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	defer func() {
		cancel()
		_ = cmd.Wait() // it was killed
	}()
	line, err := bufio.NewReader(out).ReadString('\n') // Forwarding from 127.0.0.1:PORT -> 15016
	if err != nil {
		return nil, fmt.Errorf("kubectl port-forward to %s: %w", meshd, err)
	}
	address, _, found := strings.Cut(strings.TrimPrefix(line, "Forwarding from "), " -> ")
	if !found {
		return nil, errors.New("kubectl port-forward said " + line)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/state", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	var state struct{ Proxies []proxy }
	return state.Proxies, json.NewDecoder(resp.Body).Decode(&state)
}
