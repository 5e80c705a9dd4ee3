package dns

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// ttl is how long an answer may be kept, seconds: CoreDNS's for Kubernetes.
const ttl = 5

// table is Records in the form that questions come in: every name that exists,
// with what it has. Names are fully qualified and lower case. A table is never
// changed.
type table struct {
	names   map[string]*entry
	reverse map[string]string // in-addr.arpa and ip6.arpa names
}

// entry is one name. An empty one exists because a longer name does.
type entry struct {
	addrs []netip.Addr
	alias string // CNAME
	srv   []srv
}

type srv struct {
	port   uint16
	target string
}

func newTable(r Records) *table {
	t := &table{names: map[string]*entry{}, reverse: map[string]string{}}
	t.at(zone())
	t.at("svc." + zone())
	for _, s := range r.Services {
		t.addService(s)
	}
	for name, addrs := range r.Static {
		e := t.at(fqdn(name))
		e.addrs = append(e.addrs, sortedAddrs(addrs)...)
	}
	return t
}

func zone() string { return Domain + "." }

// at returns a name's entry, and makes those of the names above it, up to the
// zone.
func (t *table) at(name string) *entry {
	if e, ok := t.names[name]; ok {
		return e
	}
	e := &entry{}
	t.names[name] = e
	if _, parent, ok := strings.Cut(name, "."); ok && parent != "" && inZone(parent) {
		t.at(parent)
	}
	return e
}

func inZone(name string) bool { return name == zone() || strings.HasSuffix(name, "."+zone()) }

func (t *table) addService(s Service) {
	name := fqdn(s.Name + "." + s.Namespace + ".svc." + Domain)
	e := t.at(name)
	if s.ExternalName != "" {
		e.alias = fqdn(s.ExternalName)
		return
	}
	e.addrs = sortedAddrs(s.Addrs)
	for _, a := range s.Addrs {
		t.setReverse(a, name)
	}
	targets := []string{name}
	if len(s.Hosts) > 0 {
		targets = nil
	}
	for host, addrs := range s.Hosts {
		hostName := fqdn(host + "." + name)
		t.at(hostName).addrs = sortedAddrs(addrs)
		for _, a := range addrs {
			t.setReverse(a, hostName)
		}
		targets = append(targets, hostName)
	}
	slices.Sort(targets)
	for _, p := range s.Ports {
		e := t.at(fqdn("_" + p.Name + "._" + p.Protocol + "." + name))
		for _, target := range targets {
			e.srv = append(e.srv, srv{port: p.Port, target: target})
		}
	}
}

func (t *table) setReverse(a netip.Addr, name string) {
	if rev, err := dns.ReverseAddr(a.String()); err == nil {
		t.reverse[rev] = name
	}
}

func sortedAddrs(addrs []netip.Addr) []netip.Addr {
	out := slices.Clone(addrs)
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

func fqdn(name string) string { return strings.ToLower(dns.Fqdn(name)) }

// maxAliases bounds a chain of CNAMEs.
const maxAliases = 8

// lookup answers a question. known is false for a name that is for others to
// answer; a name of the zone is always known, if only not to exist (rcode).
func (t *table) lookup(q dns.Question) (answer []dns.RR, rcode int, known bool) {
	name := strings.ToLower(q.Name)
	if rev, ok := t.reverse[name]; ok && q.Qtype == dns.TypePTR {
		return []dns.RR{&dns.PTR{Hdr: header(q.Name, dns.TypePTR), Ptr: rev}}, dns.RcodeSuccess, true
	}
	owner := q.Name // as it was asked: some resolvers compare the case
	for range maxAliases {
		e, ok := t.names[name]
		switch {
		case !ok && len(answer) > 0:
			// The alias leads out: what it leads to is not known here.
			return answer, dns.RcodeSuccess, true
		case !ok && inZone(name):
			return nil, dns.RcodeNameError, true
		case !ok:
			return nil, dns.RcodeNameError, false
		case e.alias == "" || q.Qtype == dns.TypeCNAME:
			return append(answer, e.records(owner, q.Qtype)...), dns.RcodeSuccess, true
		}
		answer = append(answer, &dns.CNAME{Hdr: header(owner, dns.TypeCNAME), Target: e.alias})
		owner, name = e.alias, e.alias
	}
	return nil, dns.RcodeServerFailure, true
}

// records are what a name has of one type.
func (e *entry) records(owner string, qtype uint16) []dns.RR {
	var out []dns.RR
	all := qtype == dns.TypeANY
	if e.alias != "" {
		return []dns.RR{&dns.CNAME{Hdr: header(owner, dns.TypeCNAME), Target: e.alias}}
	}
	for _, a := range e.addrs {
		switch {
		case a.Is4() && (all || qtype == dns.TypeA):
			out = append(out, &dns.A{Hdr: header(owner, dns.TypeA), A: a.AsSlice()})
		case a.Is6() && (all || qtype == dns.TypeAAAA):
			out = append(out, &dns.AAAA{Hdr: header(owner, dns.TypeAAAA), AAAA: a.AsSlice()})
		}
	}
	if all || qtype == dns.TypeSRV {
		for _, s := range e.srv {
			out = append(out, &dns.SRV{Hdr: header(owner, dns.TypeSRV), Weight: 100, Port: s.port, Target: s.target})
		}
	}
	return out
}

func header(name string, rtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: rtype, Class: dns.ClassINET, Ttl: ttl}
}

// soa goes with negative answers; without it resolvers do not keep them.
func soa() dns.RR {
	return &dns.SOA{
		Hdr: header(zone(), dns.TypeSOA), Ns: "ns.dns." + zone(), Mbox: "hostmaster." + zone(),
		Serial: 1, Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: ttl,
	}
}
