package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

func metricsChecks() []check {
	const from, to = `spiffe://cluster.local/ns/bank/sa/accounts`, `spiffe://cluster.local/ns/bank/sa/loans`
	counted := func(where, reporter string) func(context.Context, *mesh) (string, error) {
		return func(ctx context.Context, m *mesh) (string, error) {
			texts, err := m.sidecarMetrics(ctx, where)
			if err != nil {
				return "", err
			}
			text := strings.Join(texts, "\n")
			n := sum(text, "envoy_meshd_requests_total", reporter, `source="`+from+`"`, `destination="`+to+`"`, `code="200"`)
			if n == 0 {
				return "", errors.New("no such series")
			}
			if sum(text, "envoy_meshd_request_duration_bucket", reporter) == 0 {
				return "", errors.New("no latency histogram")
			}
			return fmt.Sprintf("%.0f requests with code 200, and their latency", n), nil
		}
	}
	return []check{
		{"accounts' sidecar counts what it sent to loans", counted(accounts, `reporter="source"`)},
		{"loans' sidecar counts what it received from accounts", counted("bank/deploy/loans", `reporter="destination"`)},
	}
}

// sidecarMetrics is what the sidecars of all pods of a workload say, NAMESPACE/deploy/NAME, one text for each pod.
func (m *mesh) sidecarMetrics(ctx context.Context, where string) ([]string, error) {
	namespace, owner, _ := strings.Cut(where, "/")
	s, err := m.status(ctx)
	if err != nil {
		return nil, err
	}
	var texts []string
	for _, p := range s.Pods {
		if p.Namespace != namespace || p.Owner != owner {
			continue
		}
		got, err := m.get(ctx, namespace+"/"+p.Name, "http://127.0.0.1:15021/metrics")
		if err == nil && got.code != http.StatusOK {
			err = fmt.Errorf("metrics of %s: %s", p.Name, got)
		}
		if err != nil {
			return nil, err
		}
		texts = append(texts, got.body)
	}
	if len(texts) == 0 {
		return nil, fmt.Errorf("%s has no pods", where)
	}
	return texts, nil
}

// sum adds up the series of a metric that carry all labels (Prometheus text format).
func sum(text, metric string, labels ...string) float64 {
	var total float64
next:
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, metric) {
			continue
		}
		for _, label := range labels {
			if !strings.Contains(line, label) {
				continue next
			}
		}
		fields := strings.Fields(line)
		if v, err := strconv.ParseFloat(fields[len(fields)-1], 64); err == nil {
			total += v
		}
	}
	return total
}

func certificateChecks() []check {
	return []check{
		{"leaves live for one minute, as the CertificateAuthority says", func(ctx context.Context, m *mesh) (string, error) {
			s, err := m.status(ctx)
			if err != nil {
				return "", err
			}
			if len(s.Proxies) == 0 {
				return "", errors.New("no proxies")
			}
			for _, p := range s.Proxies {
				if life := p.CertificateExpires.Sub(p.Connected); life > time.Minute {
					return "", fmt.Errorf("the certificate of %s lives %s after it connected", p.Name, life)
				}
			}
			return fmt.Sprintf("%d proxies, none with a longer one", len(s.Proxies)), nil
		}},
		{"accounts and loans get new ones under load, 0 failed requests", rotatedUnderLoad},
	}
}

// outcome is what `eazybank load` prints.
type outcome struct {
	Requests, Failed int
	Codes            map[string]int
	Errors           map[string]int
}

func (m *mesh) load(ctx context.Context, length time.Duration) (outcome, error) {
	out, err := m.exec(ctx, accounts, "eazybank", "load", loansURL+"/loans", "--for", length.String())
	if err != nil {
		return outcome{}, err
	}
	var o outcome
	return o, json.Unmarshal([]byte(out), &o)
}

// rotatedUnderLoad keeps asking until both sides hold certificates that they did not hold at first.
func rotatedUnderLoad(ctx context.Context, m *mesh) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	first, err := m.expiries(ctx)
	if err != nil {
		return "", err
	}
	var total outcome
	for {
		o, err := m.load(ctx, 2*time.Second)
		if err != nil {
			return "", err
		}
		total.Requests, total.Failed = total.Requests+o.Requests, total.Failed+o.Failed
		if o.Failed > 0 {
			return "", fmt.Errorf("%d of %d requests failed: %v %v", o.Failed, o.Requests, o.Codes, o.Errors)
		}
		now, err := m.expiries(ctx)
		if err != nil {
			return "", err
		}
		if now[0] > first[0] && now[1] > first[1] {
			return fmt.Sprintf("%d requests, 0 failed, both rotated", total.Requests), nil
		}
	}
}

// expiries are when the certificates that Envoys use now expire, in Unix
// seconds: of accounts' and of loans', of each the first to end.
func (m *mesh) expiries(ctx context.Context) ([2]float64, error) {
	var out [2]float64
	for i, where := range []string{accounts, "bank/deploy/loans"} {
		texts, err := m.sidecarMetrics(ctx, where)
		if err != nil {
			return out, err
		}
		for _, text := range texts {
			ends := sum(text, "envoy_listener_ssl_certificate_expiration_unix_time_seconds",
				`envoy_tls_certificate="default"`, `envoy_listener_address="[__]_15006"`)
			if ends == 0 {
				return out, fmt.Errorf("a sidecar of %s does not tell when its certificate ends", where)
			}
			if out[i] == 0 || ends < out[i] {
				out[i] = ends
			}
		}
	}
	return out, nil
}

// bothSidesIdentified reads the identities that each side has verified in the other's certificate.
func bothSidesIdentified(ctx context.Context, m *mesh) (string, error) {
	const from, to = `spiffe://cluster.local/ns/bank/sa/accounts`, `spiffe://cluster.local/ns/bank/sa/loans`
	for _, side := range []struct{ where, reporter string }{{accounts, "source"}, {"bank/deploy/loans", "destination"}} {
		texts, err := m.sidecarMetrics(ctx, side.where)
		if err != nil {
			return "", err
		}
		if sum(strings.Join(texts, "\n"), "envoy_meshd_requests_total", `reporter="`+side.reporter+`"`, `source="`+from+`"`, `destination="`+to+`"`) == 0 {
			return "", fmt.Errorf("the sidecar of %s has not seen both identities", side.where)
		}
	}
	return from + " -> " + to, nil
}

func restartChecks() []check {
	return []check{
		{"kill -9 of meshd under load: 0 failed requests", killedUnderLoad},
		{"and nothing is sent again that the proxies hold", nothingResent},
	}
}

func killedUnderLoad(ctx context.Context, m *mesh) (string, error) {
	// A destination in use: one that is asked for the first time waits until meshd is back.
	if got, err := m.get(ctx, accounts, loansURL+"/loans"); err != nil || got.code != http.StatusOK {
		return "", fmt.Errorf("before the kill: %s, %w", got, err)
	}
	before, err := m.status(ctx)
	if err != nil {
		return "", err
	}
	type result struct {
		outcome
		err error
	}
	done := make(chan result, 1)
	go func() {
		o, err := m.load(ctx, 6*time.Second)
		done <- result{o, err}
	}()
	killed := time.Now()
	if err := m.kill(ctx); err != nil {
		return "", err
	}
	err = until(ctx, func() (bool, string, error) {
		s, err := m.status(ctx)
		if err != nil {
			return false, err.Error(), nil //nolint:nilerr // meshd is on its way back
		}
		back := 0
		for _, was := range before.Proxies {
			if slices.ContainsFunc(s.Proxies, func(p proxy) bool { return p.Name == was.Name && p.Connected.After(killed) && p.Synced }) {
				back++
			}
		}
		return back == len(before.Proxies), fmt.Sprintf("%d of %d proxies are back", back, len(before.Proxies)), nil
	})
	r := <-done
	switch {
	case err != nil:
		return "", err
	case r.err != nil:
		return "", r.err
	case r.Failed > 0:
		return "", fmt.Errorf("%d of %d requests failed: %v %v", r.Failed, r.Requests, r.Codes, r.Errors)
	}
	return fmt.Sprintf("%d requests, 0 failed; %d proxies back", r.Requests, len(before.Proxies)), nil
}

// nothingResent asks the new meshd what it has sent to proxies that came back with what they hold.
func nothingResent(ctx context.Context, m *mesh) (string, error) {
	text, err := m.metrics(ctx)
	if err != nil {
		return "", err
	}
	sent, kept := sum(text, "meshd_xds_resources_sent_total"), sum(text, "meshd_xds_resources_resumed_total")
	if kept == 0 {
		return "", fmt.Errorf("no proxy came back with what it holds")
	}
	if sent > 0 {
		return "", fmt.Errorf("%.0f resources sent, %.0f kept", sent, kept)
	}
	return fmt.Sprintf("%.0f resources kept, %.0f sent", kept, sent), nil
}
