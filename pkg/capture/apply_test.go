package capture

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	rtnetlink "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// listing is every chain of every table in the thread's namespace, with its rules.
func listing(w *world) []string {
	w.t.Helper()
	conn, err := nftables.New()
	w.must(err)
	all, err := conn.ListChains()
	w.must(err)
	var out []string
	for _, c := range all {
		rules, err := conn.GetRules(c.Table, c)
		w.must(err)
		out = append(out, fmt.Sprintf("%s %s %s %d %d", c.Table.Name, c.Name, c.Type, *c.Hooknum, *c.Priority))
		for _, r := range rules {
			out = append(out, text(r.Exprs))
		}
	}
	return out
}

func text(exprs []expr.Any) string {
	var b strings.Builder
	for _, e := range exprs {
		fmt.Fprintf(&b, "%T%+v ", e, e)
	}
	return b.String()
}

func TestAgainChangesNothing(t *testing.T) {
	w := newWorld(t)
	var one, two Config
	one.InboundPorts, one.UIDs = []uint16{9090}, []uint32{other}
	two.OutboundCIDRs = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	w.capture(one)
	first := listing(w)
	if len(first) < len(chains(one)) {
		t.Fatalf("no rules: %q", first)
	}
	w.capture(one)
	if d := cmp.Diff(first, listing(w)); d != "" {
		t.Errorf("the second run made a difference:\n%s", d)
	}
	w.capture(two)
	if cmp.Equal(first, listing(w)) {
		t.Error("a changed configuration made no difference")
	}
	w.capture(one)
	if d := cmp.Diff(first, listing(w)); d != "" {
		t.Errorf("something is left of another configuration:\n%s", d)
	}
	if n := w.deliverySources6(); n != 1 {
		t.Errorf("lo has ::6 %d times", n)
	}
}

// deliverySources6 counts ::6 on the interfaces of the thread's namespace.
func (w *world) deliverySources6() int {
	w.t.Helper()
	addresses, err := rtnetlink.AddrList(nil, unix.AF_INET6)
	w.must(err)
	count := 0
	for _, a := range addresses {
		if a.IP.Equal(net.IP(DeliverySource6().AsSlice())) {
			count++
			if a.Flags&unix.IFA_F_DEPRECATED == 0 {
				w.t.Error("::6 may be chosen as a source")
			}
		}
	}
	return count
}

func TestOtherTablesStay(t *testing.T) {
	w := newWorld(t)
	w.in(w.pod, func() {
		conn, err := nftables.New()
		w.must(err)
		conn.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "mine"})
		w.must(conn.Flush())
	})
	w.capture(Config{})
	w.in(w.pod, func() {
		conn, err := nftables.New()
		w.must(err)
		tables, err := conn.ListTables()
		w.must(err)
		if len(tables) != 2 {
			t.Errorf("%d tables, wanted mine and meshd", len(tables))
		}
	})
}

func TestManyExclusions(t *testing.T) {
	w := newWorld(t)
	var cfg Config
	for i := range 1000 {
		cfg.InboundPorts = append(cfg.InboundPorts, uint16(20000+i))
		cfg.OutboundPorts = append(cfg.OutboundPorts, uint16(20000+i))
		cfg.OutboundCIDRs = append(cfg.OutboundCIDRs, netip.PrefixFrom(netip.AddrFrom4([4]byte{100, byte(i / 256), byte(i), 0}), 24))
	}
	w.serve()
	w.capture(cfg)
	w.capture(cfg)
	w.in(w.pod, func() {
		if got := w.dial(call{uid: app, to: outside4 + ":80"}); got != "15001 10.77.0.1:80" {
			t.Error(got)
		}
	})
}

func TestWithoutIPv6(t *testing.T) {
	for name, take := range map[string]func(*world){
		"disabled": func(w *world) {
			w.must(os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("1"), 0))
		},
		"disabled on lo": func(w *world) {
			w.must(os.WriteFile("/proc/sys/net/ipv6/conf/lo/disable_ipv6", []byte("1"), 0))
		},
		"no address": func(w *world) {
			eth0, err := rtnetlink.LinkByName("eth0")
			w.must(err)
			a, err := rtnetlink.ParseAddr(pod6 + "/64")
			w.must(err)
			w.must(rtnetlink.AddrDel(eth0, a))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.serve()
			w.in(w.pod, func() { take(w) })
			w.capture(Config{})
			w.in(w.pod, func() {
				if got := w.dial(call{uid: app, to: outside4 + ":80"}); got != "15001 10.77.0.1:80" {
					t.Error(got)
				}
				if n := w.deliverySources6(); n != 0 {
					t.Errorf("lo has ::6 %d times", n)
				}
			})
		})
	}
}

// TestForwardedIsLeftAlone: a pod may be a router for others, containers within it for one.
func TestForwardedIsLeftAlone(t *testing.T) {
	w := newWorld(t)
	w.serve()
	inner := newNamespace(t)
	w.in(w.pod, func() {
		link := &rtnetlink.Veth{LinkAttrs: rtnetlink.LinkAttrs{Name: "inner"}, PeerName: "eth0", PeerNamespace: rtnetlink.NsFd(inner)}
		w.must(rtnetlink.LinkAdd(link))
		w.up("inner", "10.78.0.1/24")
		w.must(os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0))
	})
	w.in(inner, func() {
		w.up("lo")
		w.up("eth0", "10.78.0.2/24")
		w.route("10.77.0.0/24", "10.78.0.1")
	})
	w.in(w.outside, func() { w.route("10.78.0.0/24", pod4) })
	w.capture(Config{})
	w.in(inner, func() {
		if got := w.dial(call{to: outside4 + ":80"}); got != "server 10.77.0.1:80" {
			t.Errorf("through the pod: %s", got)
		}
		if got := w.dial(call{to: pod4 + ":8080"}); got != "15006 10.77.0.2:8080" {
			t.Errorf("to the pod: %s", got)
		}
	})
}

func (w *world) route(to, via string) {
	w.t.Helper()
	_, dst, err := net.ParseCIDR(to)
	w.must(err)
	w.must(rtnetlink.RouteAdd(&rtnetlink.Route{Dst: dst, Gw: net.ParseIP(via)}))
}

func TestWithoutCapability(t *testing.T) {
	w := newWorld(t)
	w.in(w.pod, func() {
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var had, none [2]unix.CapUserData
		w.must(unix.Capget(&header, &had[0]))
		none[0].Permitted, none[1].Permitted = had[0].Permitted, had[1].Permitted
		w.must(unix.Capset(&header, &none[0]))
		err := Apply(Config{})
		w.must(unix.Capset(&header, &had[0]))
		checkReason(t, err, "CAP_NET_ADMIN")
		if got := listing(w); len(got) != 0 {
			t.Errorf("rules were made: %q", got)
		}
	})
}

func TestReasonIsOneLine(t *testing.T) {
	for _, tc := range []struct {
		err   error
		names string
	}{
		{unix.EPERM, "CAP_NET_ADMIN"},
		{unix.ENOENT, "nft_redir"},
		{unix.EOPNOTSUPP, "nft_fib_inet"},
		{unix.EPROTONOSUPPORT, "nf_tables"},
		{unix.EMSGSIZE, "exclusions"},
		{unix.ENOMEM, "cannot allocate memory"},
	} {
		checkReason(t, explain(fmt.Errorf("replace table: %w\nanother line", tc.err)), tc.names)
	}
}

func checkReason(t *testing.T, err error, names string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), names) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v, wanted one line with %s", err, names)
	}
}
