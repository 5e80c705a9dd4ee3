package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// row is one promise of the mesh; check is one thing that was seen of it.
type row struct {
	title  string
	checks []check
}

type check struct {
	what string
	// see gives what was seen; an error is why the promise does not hold.
	see func(context.Context, *mesh) (string, error)
}

// The pods that ask.
const (
	client   = "outside/deploy/client"
	accounts = "bank/deploy/accounts"
	cards    = "bank/deploy/cards"
	loansURL = "http://loans-svc:8090"
)

func rows() []row {
	return []row{
		{"Ingress: what comes in by the gateway reaches its service", ingressChecks()},
		{"Mutual TLS: the application speaks plain HTTP, the wire carries TLS", tlsChecks()},
		{"PeerAuthentication: who is outside of the mesh stays outside", peerChecks()},
		{"AuthorizationPolicy: only who may, and the refusal says why", authzChecks()},
		{"TrafficPolicy: retries, timeouts, and a dead replica left out", trafficChecks()},
		{"Metrics: requests by source and destination identity", metricsChecks()},
		{"Certificates: short-lived, and rotated under load", certificateChecks()},
		{"meshd is killed under load: nobody notices", restartChecks()},
	}
}

func ingressChecks() []check {
	through := func(path, host string, code int, contains string) func(context.Context, *mesh) (string, error) {
		return func(ctx context.Context, m *mesh) (string, error) {
			got, err := m.throughGateway(ctx, path, host)
			return want(got, err, code, contains)
		}
	}
	return []check{
		{"GET eazybank.com/accounts", through("/accounts", "eazybank.com", http.StatusOK, `"service":"accounts"`)},
		{"GET eazybank.com/loans", through("/loans", "eazybank.com", http.StatusOK, `"service":"loans"`)},
		{"GET eazybank.com/other is no route", through("/other", "eazybank.com", http.StatusNotFound, "")},
		{"GET example.org/loans is no host", through("/loans", "example.org", http.StatusNotFound, "")},
		{"an unready pod gets none of 20 requests", unreadyGetsNothing},
	}
}

func (m *mesh) throughGateway(ctx context.Context, path, host string) (answer, error) {
	s, err := m.status(ctx)
	if err != nil {
		return answer{}, err
	}
	if len(s.Gateways) != 1 {
		return answer{}, fmt.Errorf("%d gateways, want 1", len(s.Gateways))
	}
	return m.get(ctx, client, "http://"+s.Gateways[0].Address+path, "--host", host)
}

// unreadyGetsNothing takes one replica of loans out, and leaves it out: the retries of row 5 need a single replica.
func unreadyGetsNothing(ctx context.Context, m *mesh) (string, error) {
	pods, err := m.loans(ctx)
	if err != nil {
		return "", err
	}
	if len(pods) != 2 {
		return "", fmt.Errorf("%d loans pods, want 2", len(pods))
	}
	out := pods[0].Name
	if err := m.turn(ctx, out, "ready", false); err != nil {
		return "", err
	}
	if err := m.waitReady(ctx, out, false); err != nil {
		return "", err
	}
	for range 20 {
		got, err := m.throughGateway(ctx, "/loans", "eazybank.com")
		if _, err := want(got, err, http.StatusOK, `"service":"loans"`); err != nil {
			return "", err
		}
		if strings.Contains(got.body, out) {
			return "", fmt.Errorf("the unready pod %s answered", out)
		}
	}
	return "all answered by " + pods[1].Name, nil
}

func (m *mesh) loans(ctx context.Context) ([]pod, error) {
	s, err := m.status(ctx)
	return slices.DeleteFunc(s.Pods, func(p pod) bool { return p.Namespace != "bank" || p.Owner != "deploy/loans" }), err
}

// turn throws a switch of a loans pod, from inside of it.
func (m *mesh) turn(ctx context.Context, pod, what string, on bool) error {
	url := fmt.Sprintf("http://127.0.0.1:8090/switch/%s/%t", what, on)
	got, err := m.get(ctx, "bank/"+pod, url, "--method", http.MethodPost)
	_, err = want(got, err, http.StatusOK, "")
	return err
}

func (m *mesh) waitReady(ctx context.Context, name string, ready bool) error {
	err := until(ctx, func() (bool, string, error) {
		pods, err := m.loans(ctx)
		i := slices.IndexFunc(pods, func(p pod) bool { return p.Name == name && p.Ready == ready })
		return i >= 0, fmt.Sprintf("%s ready=%t", name, !ready), err
	})
	return err
}

func tlsChecks() []check {
	return []check{
		{"accounts calls " + loansURL + "/loans, unchanged", func(ctx context.Context, m *mesh) (string, error) {
			got, err := m.get(ctx, accounts, loansURL+"/loans")
			return want(got, err, http.StatusOK, `"service":"loans"`)
		}},
		{"on the wire between the pods there is TLS only", wireIsTLS},
		{"both sides present certificates of the mesh's CA", bothSidesIdentified},
	}
}

// wireIsTLS reads what the eavesdroppers in the loans pods have seen so far.
func wireIsTLS(ctx context.Context, m *mesh) (string, error) {
	pods, err := m.loans(ctx)
	if err != nil {
		return "", err
	}
	var packets, handshakes int
	for _, p := range pods {
		log, err := run(ctx, m.command, append([]string{"logs", "-n", "bank", p.Name, "-c", "wire"}, m.newest...)...)
		if err != nil {
			return "", err
		}
		for line := range strings.Lines(log) {
			packets++
			if strings.Contains(line, "HTTP/") || strings.Contains(line, "loans") {
				return "", fmt.Errorf("plaintext on the wire: %s", line)
			}
			if strings.Contains(line, `"\x16\x03`) {
				handshakes++
			}
		}
	}
	if handshakes == 0 {
		return "", fmt.Errorf("no TLS handshake among %d packets", packets)
	}
	return fmt.Sprintf("%d packets, %d TLS handshakes, 0 with plaintext", packets, handshakes), nil
}

func peerChecks() []check {
	outside := func(url string, code int) func(context.Context, *mesh) (string, error) {
		return func(ctx context.Context, m *mesh) (string, error) {
			got, err := m.get(ctx, client, url)
			return want(got, err, code, "")
		}
	}
	loans, accounts := "http://loans-svc.bank:8090/healthz", "http://accounts.bank:8080/healthz"
	return []check{
		{"Strict: a client outside of the mesh is refused", outside(loans, 0)},
		{"Permissive for loans' port 8090: it gets in", func(ctx context.Context, m *mesh) (string, error) {
			if err := m.apply(ctx, "apply", permissive); err != nil {
				return "", err
			}
			return outside(loans, http.StatusOK)(ctx, m)
		}},
		{"and accounts, whose port is not named, stays closed", outside(accounts, 0)},
		{"Strict again: it is refused again", func(ctx context.Context, m *mesh) (string, error) {
			if err := m.apply(ctx, "delete", permissive); err != nil {
				return "", err
			}
			return outside(loans, 0)(ctx, m)
		}},
	}
}

const permissive = `
apiVersion: meshd.io/v1alpha1
kind: PeerAuthentication
metadata: {name: loans, namespace: bank}
spec:
  targetRefs: [{kind: Pod, selector: {matchLabels: {app: loans}}}]
  mode: Strict
  ports: [{port: 8090, mode: Permissive}]
---
apiVersion: meshd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: health, namespace: bank}
spec:
  action: Allow
  rules: [{to: [{paths: [/healthz]}]}]
`

func authzChecks() []check {
	return []check{
		{"accounts may call loans", func(ctx context.Context, m *mesh) (string, error) {
			got, err := m.get(ctx, accounts, loansURL+"/loans")
			return want(got, err, http.StatusOK, `"service":"loans"`)
		}},
		{"cards may not: 403, and the reason names the policy", func(ctx context.Context, m *mesh) (string, error) {
			got, err := m.get(ctx, cards, loansURL+"/loans")
			return want(got, err, http.StatusForbidden, "bank/loans-callers")
		}},
		{"nobody may call cards: deny by default in the namespace", func(ctx context.Context, m *mesh) (string, error) {
			got, err := m.get(ctx, accounts, "http://cards:9000/cards")
			return want(got, err, http.StatusForbidden, "bank/nobody")
		}},
		{"probes pass all the same", func(ctx context.Context, m *mesh) (string, error) {
			s, err := m.status(ctx)
			if err != nil {
				return "", err
			}
			ready := 0
			for _, p := range s.Pods {
				if p.Namespace == "bank" && p.Ready {
					ready++
				}
			}
			if ready < 3 {
				return "", fmt.Errorf("%d pods ready, want accounts, cards and one of loans", ready)
			}
			return fmt.Sprintf("%d pods ready", ready), nil
		}},
	}
}

func trafficChecks() []check {
	return []check{
		{"loans fails twice, then answers: accounts sees one 200", func(ctx context.Context, m *mesh) (string, error) {
			got, err := m.get(ctx, accounts, loansURL+"/flaky?key=demo&fail=2")
			return want(got, err, http.StatusOK, "try 3")
		}},
		{"a path slower than the timeout of 2 s gives 504", func(ctx context.Context, m *mesh) (string, error) {
			got, err := m.get(ctx, accounts, loansURL+"/slow?for=30s")
			return want(got, err, http.StatusGatewayTimeout, "")
		}},
		{"a replica that fails is left out by outlier detection", outlierIsLeftOut},
	}
}

// outlierIsLeftOut takes the second replica back in, lets it fail, and asks until it has been ejected.
func outlierIsLeftOut(ctx context.Context, m *mesh) (string, error) {
	pods, err := m.loans(ctx)
	if err != nil {
		return "", err
	}
	dead := pods[0].Name
	if err := errors.Join(m.turn(ctx, dead, "ready", true), m.waitReady(ctx, dead, true), m.turn(ctx, dead, "failing", true)); err != nil {
		return "", err
	}
	failed, inARow := 0, 0
	err = until(ctx, func() (bool, string, error) {
		got, err := m.get(ctx, accounts, loansURL+"/loans")
		if got.code == http.StatusOK {
			inARow++
		} else {
			failed, inARow = failed+1, 0
		}
		return inARow >= 20, fmt.Sprintf("%d failures", failed), err
	})
	if err != nil {
		return "", err
	}
	if failed == 0 {
		return "", errors.New("the failing replica was never asked: nothing is proven")
	}
	return fmt.Sprintf("%d failures, then 20 answers in a row", failed), m.turn(ctx, dead, "failing", false)
}
