package dns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"github.com/miekg/dns"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func startServer(t *testing.T, cfg Config, r Records) string {
	t.Helper()
	cfg.Listen = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}
	s, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	s.SetRecords(r)
	return s.Addrs()[0].String()
}

func testRecords() Records {
	many := []netip.Addr{}
	for i := range 200 {
		many = append(many, netip.AddrFrom4([4]byte{10, 244, 1, byte(i)}))
	}
	return Records{
		Services: []Service{
			{Namespace: "bank", Name: "loans", Addrs: addrs("10.96.0.7", "fd00:10:96::7"),
				Ports: []Port{{Name: "http", Protocol: "tcp", Port: 8090}}},
			{Namespace: "bank", Name: "v4only", Addrs: addrs("10.96.0.8")},
			{Namespace: "bank", Name: "empty"},
			{Namespace: "bank", Name: "db", Addrs: addrs("10.244.0.11", "10.244.0.12"),
				Hosts: map[string][]netip.Addr{"db-0": addrs("10.244.0.11"), "db-1": addrs("10.244.0.12")},
				Ports: []Port{{Name: "pg", Protocol: "tcp", Port: 5432}}},
			{Namespace: "bank", Name: "out", ExternalName: "api.example.com"},
			{Namespace: "bank", Name: "away", ExternalName: "www.example.org"},
			{Namespace: "bank", Name: "loop", ExternalName: "loop.bank.svc.cluster.local"},
			{Namespace: "bank", Name: "many", Addrs: many},
		},
		Static: map[string][]netip.Addr{"api.example.com": addrs("192.0.2.10")},
	}
}

// TestAnswers is the table of names: what exists, what does not, what exists
// without an address of the family.
func TestAnswers(t *testing.T) {
	server := startServer(t, Config{}, testRecords())
	for _, c := range []struct {
		name  string
		qtype uint16
		rcode int
		want  []string
	}{
		{"loans.bank.svc.cluster.local.", dns.TypeA, dns.RcodeSuccess, []string{"10.96.0.7"}},
		{"LOANS.bank.SVC.cluster.local.", dns.TypeA, dns.RcodeSuccess, []string{"10.96.0.7"}},
		{"loans.bank.svc.cluster.local.", dns.TypeAAAA, dns.RcodeSuccess, []string{"fd00:10:96::7"}},
		{"v4only.bank.svc.cluster.local.", dns.TypeAAAA, dns.RcodeSuccess, nil},
		{"empty.bank.svc.cluster.local.", dns.TypeA, dns.RcodeSuccess, nil},
		{"bank.svc.cluster.local.", dns.TypeA, dns.RcodeSuccess, nil},
		{"svc.cluster.local.", dns.TypeA, dns.RcodeSuccess, nil},
		{"cluster.local.", dns.TypeA, dns.RcodeSuccess, nil},
		{"nope.bank.svc.cluster.local.", dns.TypeA, dns.RcodeNameError, nil},
		{"nope.bank.svc.cluster.local.", dns.TypeAAAA, dns.RcodeNameError, nil},
		{"loans.other.svc.cluster.local.", dns.TypeA, dns.RcodeNameError, nil},
		{"loans.bank.svc.cluster.local.bank.svc.cluster.local.", dns.TypeA, dns.RcodeNameError, nil},
		{"db.bank.svc.cluster.local.", dns.TypeA, dns.RcodeSuccess, []string{"10.244.0.11", "10.244.0.12"}},
		{"db-1.db.bank.svc.cluster.local.", dns.TypeA, dns.RcodeSuccess, []string{"10.244.0.12"}},
		{"db-2.db.bank.svc.cluster.local.", dns.TypeA, dns.RcodeNameError, nil},
		{"out.bank.svc.cluster.local.", dns.TypeA, dns.RcodeSuccess, []string{"CNAME api.example.com.", "192.0.2.10"}},
		{"out.bank.svc.cluster.local.", dns.TypeAAAA, dns.RcodeSuccess, []string{"CNAME api.example.com."}},
		{"away.bank.svc.cluster.local.", dns.TypeA, dns.RcodeSuccess, []string{"CNAME www.example.org."}},
		{"loop.bank.svc.cluster.local.", dns.TypeA, dns.RcodeServerFailure, nil},
		{"api.example.com.", dns.TypeA, dns.RcodeSuccess, []string{"192.0.2.10"}},
		{"api.example.com.", dns.TypeAAAA, dns.RcodeSuccess, nil},
		{"api.example.com.bank.svc.cluster.local.", dns.TypeA, dns.RcodeNameError, nil},
		{"www.example.org.", dns.TypeA, dns.RcodeNameError, nil},
		{"_http._tcp.loans.bank.svc.cluster.local.", dns.TypeSRV, dns.RcodeSuccess, []string{"SRV 8090 loans.bank.svc.cluster.local."}},
		{"_pg._tcp.db.bank.svc.cluster.local.", dns.TypeSRV, dns.RcodeSuccess,
			[]string{"SRV 5432 db-0.db.bank.svc.cluster.local.", "SRV 5432 db-1.db.bank.svc.cluster.local."}},
		{"7.0.96.10.in-addr.arpa.", dns.TypePTR, dns.RcodeSuccess, []string{"PTR loans.bank.svc.cluster.local."}},
		{"12.0.244.10.in-addr.arpa.", dns.TypePTR, dns.RcodeSuccess, []string{"PTR db-1.db.bank.svc.cluster.local."}},
		{"9.9.9.9.in-addr.arpa.", dns.TypePTR, dns.RcodeNameError, nil},
	} {
		t.Run(fmt.Sprint(c.name, dns.TypeToString[c.qtype]), func(t *testing.T) {
			r := ask(t, "udp", server, c.name, c.qtype)
			got := text(r.Answer)
			if r.Rcode != c.rcode || !slices.Equal(got, c.want) {
				t.Errorf("got %s %q, want %s %q", dns.RcodeToString[r.Rcode], got, dns.RcodeToString[c.rcode], c.want)
			}
			if len(r.Answer) == 0 && len(r.Ns) == 0 {
				t.Error("a negative answer without SOA")
			}
		})
	}
}

// TestTruncation: an answer that does not fit says so, and TCP has all of it.
func TestTruncation(t *testing.T) {
	server := startServer(t, Config{}, testRecords())
	const name, all = "many.bank.svc.cluster.local.", 200
	if r := ask(t, "udp", server, name, dns.TypeA); !r.Truncated || len(r.Answer) >= all {
		t.Errorf("udp: truncated %v with %d answers", r.Truncated, len(r.Answer))
	}
	if r := ask(t, "tcp", server, name, dns.TypeA); r.Truncated || len(r.Answer) != all {
		t.Errorf("tcp: truncated %v with %d answers, want %d", r.Truncated, len(r.Answer), all)
	}
}

func TestUpstream(t *testing.T) {
	upstream := startServer(t, Config{}, Records{Static: map[string][]netip.Addr{"www.example.org": addrs("192.0.2.99")}})
	server := startServer(t, Config{Upstream: []netip.AddrPort{netip.MustParseAddrPort(upstream)}}, testRecords())
	if r := ask(t, "udp", server, "www.example.org.", dns.TypeA); !slices.Equal(text(r.Answer), []string{"192.0.2.99"}) {
		t.Errorf("got %q", text(r.Answer))
	}
	if r := ask(t, "udp", server, "away.bank.svc.cluster.local.", dns.TypeA); !slices.Equal(text(r.Answer), []string{"CNAME www.example.org.", "192.0.2.99"}) {
		t.Errorf("an alias that leads out: %q", text(r.Answer))
	}
	if r := ask(t, "udp", server, "nope.bank.svc.cluster.local.", dns.TypeA); r.Rcode != dns.RcodeNameError || !r.Authoritative {
		t.Errorf("a name of the zone went upstream: %s", r)
	}
}

// TestPortInUse: a port that TCP has free may be somebody's for UDP. It is left to
// them when any will do, and is an error when it was asked for.
func TestPortInUse(t *testing.T) {
	var taken net.PacketConn
	first := net.ListenConfig{Control: func(network, address string, _ syscall.RawConn) (err error) {
		if network == "udp4" && taken == nil {
			taken, err = net.ListenPacket(network, address) // just before the server does
		}
		return err
	}}
	pc, l, err := listeners(t.Context(), first, netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	defer l.Close()
	if taken == nil || pc.LocalAddr().String() != l.Addr().String() {
		t.Fatalf("taken %v, UDP on %s, TCP on %s", taken, pc.LocalAddr(), l.Addr())
	}
	defer taken.Close()
	asked := netip.MustParseAddrPort(taken.LocalAddr().String())
	if s, err := Start(t.Context(), Config{Listen: []netip.AddrPort{asked}}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a port that somebody has: %v, %v", s, err)
	}
}

func TestReplace(t *testing.T) {
	s, err := Start(t.Context(), Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	server := s.Addrs()[0].String()
	const name = "loans.bank.svc.cluster.local."
	if r := ask(t, "udp", server, name, dns.TypeA); r.Rcode != dns.RcodeNameError {
		t.Errorf("empty table: %s", dns.RcodeToString[r.Rcode])
	}
	s.SetRecords(testRecords())
	if r := ask(t, "udp", server, name, dns.TypeA); len(r.Answer) != 1 {
		t.Errorf("got %q", text(r.Answer))
	}
}

func TestResolvConf(t *testing.T) {
	want := "nameserver 10.244.0.1\nnameserver fd00:10:244::1\n" +
		"search bank.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
	if got := ResolvConf(addrs("10.244.0.1", "fd00:10:244::1"), "bank"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func ask(t *testing.T, network, server, name string, qtype uint16) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	r, _, err := (&dns.Client{Net: network}).Exchange(m, server)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// text is the answers in a comparable form; records of one type sorted.
func text(rrs []dns.RR) []string {
	var out []string
	for _, rr := range rrs {
		switch r := rr.(type) {
		case *dns.A:
			out = append(out, r.A.String())
		case *dns.AAAA:
			out = append(out, r.AAAA.String())
		case *dns.CNAME:
			out = append(out, "CNAME "+r.Target)
		case *dns.PTR:
			out = append(out, "PTR "+r.Ptr)
		case *dns.SRV:
			out = append(out, fmt.Sprint("SRV ", r.Port, " ", r.Target))
		}
	}
	first := 0
	for first < len(out) && len(out[first]) > 5 && out[first][:5] == "CNAME" {
		first++
	}
	slices.Sort(out[first:])
	return out
}
