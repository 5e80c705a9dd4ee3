package integration

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/meshd-io/meshd/internal/envoytest"
	"github.com/meshd-io/meshd/pkg/report"
	"github.com/meshd-io/meshd/pkg/xds/acks"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

// call makes a request on a connection of its own and gives status and body.
func call(t *testing.T, url string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), envoytest.Patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	return fmt.Sprintf("%d %s", res.StatusCode, body), err
}

func answers(t *testing.T, url, want string) {
	t.Helper()
	got := ""
	envoytest.Eventually(t, "answer "+want+" from "+url, func() bool {
		var err error
		if got, err = call(t, url); err != nil {
			got = err.Error()
		}
		return got == want
	}, func() string { return got })
}

func (p *plane) progress(name string) acks.Progress {
	obj := report.Object{Kind: "HTTPRoute", Namespace: "shop", Name: name}
	return acks.ProgressOf(p.book.Ledger(), func(k scope.Key) []acks.Resource { return p.cache.Concerned(k, obj) }, 1)
}

// One of several resources is refused: it is named, the others are in force,
// its last good version too, and a mended one recovers.
func TestXDSRefusedScope(t *testing.T) {
	port, a, b := envoytest.FreePort(t), backend(t, "a"), backend(t, "b")
	two, three := fmt.Sprintf("127.0.0.2:%d", port), fmt.Sprintf("127.0.0.3:%d", port)
	resources := func(twoTo, twoRegex, threeTo string) func([]netip.AddrPort) envoy.Resources {
		return func([]netip.AddrPort) envoy.Resources {
			return envoy.Resources{
				envoy.ClusterType:     {edsCluster(t, "a", ""), edsCluster(t, "b", "")},
				envoy.EndpointType:    {assignment(t, "a", a), assignment(t, "b", b)},
				envoy.ScopedRouteType: {scopeFor(t, two, twoTo, twoRegex), scopeFor(t, three, threeTo, "/tea")},
				envoy.ListenerType:    {httpListener(t, port)},
			}
		}
	}
	p := newPlane(t, resources("a", "/tea", "a"))
	e := p.envoy()
	p.synced(e)
	answers(t, "http://"+two+"/", "200 a")
	answers(t, "http://"+three+"/", "200 a")

	p.change(resources("b", tooLarge(), "b"))
	answers(t, "http://"+three+"/", "200 b")
	envoytest.Eventually(t, "refusal", func() bool { return p.progress(two).Rejected == 1 }, func() string { return fmt.Sprint(p.progress(two)) })
	answers(t, "http://"+two+"/", "200 a")
	fs := p.cache.Findings()
	if len(fs) != 1 || fs[0].Object.Name != two || fs[0].Reason != report.Rejected || !strings.Contains(fs[0].Message, "program size") {
		t.Errorf("findings %+v", fs)
	}
	if got := p.progress(three); got.Acknowledged != 1 || got.Total != 1 {
		t.Errorf("the scope beside it: %+v", got)
	}

	// A new proxy gets the last good version.
	e.Stop()
	e = p.envoy()
	e.Ready()
	answers(t, "http://"+two+"/", "200 a")
	answers(t, "http://"+three+"/", "200 b")

	p.change(resources("b", "/coffee", "b"))
	answers(t, "http://"+two+"/", "200 b")
	answers(t, "http://"+two+"/coffee", "418 ")
	p.synced(e)
	if fs := p.cache.Findings(); len(fs) != 0 {
		t.Errorf("findings remain: %+v", fs)
	}
}

// A cluster that Envoy refuses holds up neither the others nor the listener.
func TestXDSRefusedCluster(t *testing.T) {
	port, a := envoytest.FreePort(t), backend(t, "a")
	two := fmt.Sprintf("127.0.0.2:%d", port)
	resources := func(ring string) func([]netip.AddrPort) envoy.Resources {
		return func([]netip.AddrPort) envoy.Resources {
			return envoy.Resources{
				envoy.ClusterType: {edsCluster(t, "a", ""), edsCluster(t, "b", ring), edsCluster(t, "c", "")},
				envoy.EndpointType: {
					assignment(t, "a", a), assignment(t, "b", a), assignment(t, "c", a),
				},
				envoy.ScopedRouteType: {scopeFor(t, two, "a", "/tea")},
				envoy.ListenerType:    {httpListener(t, port)},
			}
		}
	}
	p := newPlane(t, resources("lb_policy: RING_HASH\nring_hash_lb_config: {minimum_ring_size: 100, maximum_ring_size: 10}"))
	e := p.envoy()
	e.Ready()
	answers(t, "http://"+two+"/", "200 a")
	envoytest.Eventually(t, "refusal", func() bool { return p.progress("b").Rejected == 1 }, func() string {
		return fmt.Sprintf("%+v %+v", p.progress("b"), p.book.Ledger().Proxies())
	})
	for _, name := range []string{"a", "c"} {
		if got := p.progress(name); got.Acknowledged != 1 {
			t.Errorf("%s: %+v", name, got)
		}
	}
	before := e.Stat("cluster_manager.cds.update_rejected")
	p.change(resources(""))
	p.synced(e)
	if after := e.Stat("cluster_manager.cds.update_rejected"); after != before || before != 1 {
		t.Errorf("%d refusals, then %d", before, after)
	}
}

// One of two listeners is refused: Envoy is sent both again, one by one.
func TestXDSRefusedListener(t *testing.T) {
	port, a := envoytest.FreePort(t), backend(t, "a")
	two := fmt.Sprintf("127.0.0.2:%d", port)
	chain := "{filters: [{name: tcp, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: x, cluster: a}}]}"
	resources := func(chains string) func([]netip.AddrPort) envoy.Resources {
		second := envoy.Resource{Name: "bad", Origins: origin("bad"), Proto: read(t, &listenerv3.Listener{}, fmt.Sprintf(
			"{name: bad, address: {socket_address: {address: 127.0.0.4, port_value: %d}}, filter_chains: [%s]}", port, chains))}
		return func([]netip.AddrPort) envoy.Resources {
			return envoy.Resources{
				envoy.ClusterType:     {edsCluster(t, "a", "")},
				envoy.EndpointType:    {assignment(t, "a", a)},
				envoy.ScopedRouteType: {scopeFor(t, two, "a", "/tea")},
				envoy.ListenerType:    {second, httpListener(t, port)},
			}
		}
	}
	p := newPlane(t, resources(chain+","+chain)) // two chains that match the same
	e := p.envoy()
	e.Ready()
	answers(t, "http://"+two+"/", "200 a")
	envoytest.Eventually(t, "refusal", func() bool { return p.progress("bad").Rejected == 1 }, func() string {
		return fmt.Sprintf("%+v %+v", p.progress("bad"), p.book.Ledger().Proxies())
	})
	p.change(resources(chain))
	p.synced(e)
	answers(t, fmt.Sprintf("http://127.0.0.4:%d/", port), "200 a")
}

// The proxy's pool is rebuilt by a changed cluster, which warms only when its
// assignment comes again, although that has not changed.
func TestXDSChangedClusterKeepsItsEndpoints(t *testing.T) {
	port, a := envoytest.FreePort(t), backend(t, "a")
	two := fmt.Sprintf("127.0.0.2:%d", port)
	resources := func(timeout time.Duration) func([]netip.AddrPort) envoy.Resources {
		return func([]netip.AddrPort) envoy.Resources {
			return envoy.Resources{
				envoy.ClusterType:     {edsCluster(t, "a", fmt.Sprintf("per_connection_buffer_limit_bytes: %d", timeout))},
				envoy.EndpointType:    {assignment(t, "a", a)},
				envoy.ScopedRouteType: {scopeFor(t, two, "a", "/tea")},
				envoy.ListenerType:    {httpListener(t, port)},
			}
		}
	}
	p := newPlane(t, resources(1000))
	e := p.envoy()
	p.synced(e)
	for i := range 5 {
		p.change(resources(time.Duration(2000 + i)))
		p.synced(e)
		if got, err := call(t, "http://"+two+"/"); err != nil || got != "200 a" {
			t.Fatalf("after change %d: %q %v", i, got, err)
		}
	}
	if n := e.Stat("cluster.a.init_fetch_timeout"); n != 0 {
		t.Errorf("%d assignments were waited for in vain", n)
	}
}
