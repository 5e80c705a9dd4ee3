package dns

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

// Config says where to listen.
type Config struct {
	// Listen are the addresses to serve on, UDP and TCP: the node's, port 53.
	// Port 0 takes one that is free, see Server.Addrs.
	Listen []netip.AddrPort
	// Upstream are resolvers for names that the Records do not have. None (the
	// lab has no way out): such names do not exist (NXDOMAIN), at once.
	Upstream []netip.AddrPort
}

// Server is a running DNS server.
type Server struct {
	upstream []netip.AddrPort
	table    atomic.Pointer[table]
	servers  []*dns.Server
	addrs    []netip.AddrPort
	running  sync.WaitGroup
	stopOnce sync.Once
	unwatch  func() bool
}

// upstreamTimeout bounds one question to one upstream resolver.
const upstreamTimeout = 2 * time.Second

// Start listens and serves, in the calling process's network namespace, until
// ctx is done or Close is called. When it returns, queries are answered.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	s := &Server{upstream: cfg.Upstream}
	s.SetRecords(Records{})
	for _, at := range cfg.Listen {
		if err := s.listen(ctx, at); err != nil {
			return nil, errors.Join(fmt.Errorf("serve DNS on %s: %w", at, err), s.Close())
		}
	}
	s.unwatch = context.AfterFunc(ctx, s.stop)
	return s, nil
}

// listen serves one address, UDP and TCP on the same port.
func (s *Server) listen(ctx context.Context, at netip.AddrPort) error {
	pc, l, err := listeners(ctx, net.ListenConfig{}, at)
	if err != nil {
		return err
	}
	s.addrs = append(s.addrs, l.Addr().(*net.TCPAddr).AddrPort())
	for _, server := range []*dns.Server{{PacketConn: pc}, {Listener: l}} {
		started := make(chan struct{})
		server.Handler = dns.HandlerFunc(s.serve)
		server.NotifyStartedFunc = func() { close(started) }
		s.servers = append(s.servers, server)
		s.running.Go(func() { _ = server.ActivateAndServe() }) // ends by Shutdown only
		<-started
	}
	return nil
}

// portTries bounds the search for a port that both protocols have free.
const portTries = 10

// listeners are UDP's and TCP's on the same port. Where any will do TCP takes one,
// and another when UDP finds that somebody has it.
func listeners(ctx context.Context, lc net.ListenConfig, at netip.AddrPort) (net.PacketConn, net.Listener, error) {
	for try := 1; ; try++ {
		l, err := lc.Listen(ctx, "tcp", at.String())
		if err != nil {
			return nil, nil, err
		}
		pc, err := lc.ListenPacket(ctx, "udp", l.Addr().String())
		if err == nil {
			return pc, l, nil
		}
		err = errors.Join(err, l.Close())
		if at.Port() != 0 || try == portTries || !errors.Is(err, syscall.EADDRINUSE) {
			return nil, nil, err
		}
	}
}

// Addrs are the addresses that are served.
func (s *Server) Addrs() []netip.AddrPort { return s.addrs }

// SetRecords replaces the table atomically.
func (s *Server) SetRecords(r Records) { s.table.Store(newTable(r)) }

// Close stops the server and waits for its goroutines.
func (s *Server) Close() error {
	if s.unwatch != nil {
		s.unwatch()
	}
	s.stop()
	s.running.Wait()
	return nil
}

func (s *Server) stop() {
	s.stopOnce.Do(func() {
		for _, server := range s.servers {
			_ = server.Shutdown() // says only that it was not started
		}
	})
}

func (s *Server) serve(w dns.ResponseWriter, req *dns.Msg) {
	reply := s.answer(req)
	size := dns.MinMsgSize
	if opt := req.IsEdns0(); opt != nil {
		size = int(opt.UDPSize())
		reply.SetEdns0(opt.UDPSize(), false)
	}
	if w.RemoteAddr().Network() == "tcp" {
		size = dns.MaxMsgSize
	}
	reply.Truncate(size)
	_ = w.WriteMsg(reply) // the asker is gone: it will ask again, or not
}

// answer makes the reply to a message.
func (s *Server) answer(req *dns.Msg) *dns.Msg {
	reply := new(dns.Msg)
	reply.SetReply(req)
	if req.Opcode != dns.OpcodeQuery || len(req.Question) != 1 || req.Question[0].Qclass != dns.ClassINET {
		reply.Rcode = dns.RcodeNotImplemented
		return reply
	}
	answer, rcode, known := s.table.Load().lookup(req.Question[0])
	if !known && len(s.upstream) > 0 {
		return s.forward(req)
	}
	if target, out := leadsOut(answer, req.Question[0].Qtype); out && len(s.upstream) > 0 {
		answer = append(answer, s.forward(question(target, req.Question[0].Qtype)).Answer...)
	}
	reply.RecursionAvailable = true
	reply.Authoritative = known
	reply.Rcode = rcode
	reply.Answer = spread(answer)
	if len(answer) == 0 {
		reply.Ns = []dns.RR{soa()}
	}
	return reply
}

// leadsOut tells whether an answer ends with an alias for a name that is not
// known here.
func leadsOut(answer []dns.RR, qtype uint16) (target string, out bool) {
	if len(answer) == 0 || qtype == dns.TypeCNAME {
		return "", false
	}
	cname, ok := answer[len(answer)-1].(*dns.CNAME)
	if !ok || inZone(cname.Target) {
		return "", false
	}
	return cname.Target, true
}

func question(name string, qtype uint16) *dns.Msg {
	m := new(dns.Msg)
	return m.SetQuestion(name, qtype)
}

// spread shuffles addresses, so that clients which take the first of a headless
// Service's do not all take the same. Aliases stay in front.
func spread(rrs []dns.RR) []dns.RR {
	first := 0
	for first < len(rrs) && rrs[first].Header().Rrtype == dns.TypeCNAME {
		first++
	}
	rest := rrs[first:]
	rand.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
	return rrs
}

// forward asks the upstream resolvers in order.
func (s *Server) forward(req *dns.Msg) *dns.Msg {
	client := &dns.Client{Timeout: upstreamTimeout}
	for _, u := range s.upstream {
		reply, _, err := client.Exchange(req, u.String())
		if err == nil && reply != nil {
			reply.Id = req.Id
			return reply
		}
	}
	reply := new(dns.Msg)
	return reply.SetRcode(req, dns.RcodeServerFailure)
}

// ResolvConf is the content of a pod's /etc/resolv.conf (dnsPolicy
// ClusterFirst): the given servers, the namespace's search list, ndots:5.
func ResolvConf(servers []netip.Addr, namespace string) string {
	var b strings.Builder
	for _, a := range servers {
		fmt.Fprintf(&b, "nameserver %s\n", a)
	}
	fmt.Fprintf(&b, "search %s.svc.%s svc.%s %s\noptions ndots:5\n", namespace, Domain, Domain, Domain)
	return b.String()
}
