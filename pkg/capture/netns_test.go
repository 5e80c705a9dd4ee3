package capture

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	rtnetlink "github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// The addresses of the two namespaces that a test has.
const (
	pod4, pod6         = "10.77.0.2", "fd77::2"
	outside4, outside6 = "10.77.0.1", "fd77::1"
)

// dialTimeout is far beyond what any of these connections takes (seconds).
const dialTimeout = 5 * time.Second

// world is a pod's network namespace and one outside, joined by a cable. The
// test's goroutine is bound to its thread, which dies with it.
type world struct {
	t            *testing.T
	pod, outside netns.NsHandle
}

func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	runtime.LockOSThread()
	w := &world{t: t, pod: newNamespace(t), outside: newNamespace(t)}
	w.in(w.outside, func() {
		link := &rtnetlink.Veth{LinkAttrs: rtnetlink.LinkAttrs{Name: "eth0"}, PeerName: "eth0", PeerNamespace: rtnetlink.NsFd(w.pod)}
		w.must(rtnetlink.LinkAdd(link))
		w.up("lo")
		w.up("eth0", outside4+"/24", outside6+"/64")
	})
	w.in(w.pod, func() {
		w.up("lo")
		w.up("eth0", pod4+"/24", pod6+"/64")
	})
	return w
}

func newNamespace(t *testing.T) netns.NsHandle {
	t.Helper()
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	return ns
}

func (w *world) in(ns netns.NsHandle, f func()) {
	w.t.Helper()
	w.must(netns.Set(ns))
	f()
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) up(name string, cidrs ...string) {
	w.t.Helper()
	link, err := rtnetlink.LinkByName(name)
	w.must(err)
	for _, cidr := range cidrs {
		a, err := rtnetlink.ParseAddr(cidr)
		w.must(err)
		// No duplicate address detection: the address is wanted at once.
		a.Flags = unix.IFA_F_NODAD
		w.must(rtnetlink.AddrAdd(link, a))
	}
	w.must(rtnetlink.LinkSetUp(link))
}

func (w *world) capture(cfg Config) {
	w.t.Helper()
	w.in(w.pod, func() { w.must(Apply(cfg)) })
}

// listen answers every connection with its name and the destination that the
// client dialled, as the kernel remembers it.
func (w *world) listen(name, address string) {
	w.t.Helper()
	l, err := net.Listen("tcp", address)
	w.must(err)
	done := make(chan struct{})
	w.t.Cleanup(func() { _ = l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintf(c, "%s %s\n", name, originalDestination(c.(*net.TCPConn)))
			_ = c.Close()
		}
	}()
}

// originalDestination is SO_ORIGINAL_DST where the connection was redirected, otherwise its local address.
func originalDestination(c *net.TCPConn) string {
	local := c.LocalAddr().(*net.TCPAddr).AddrPort()
	local = netip.AddrPortFrom(local.Addr().Unmap(), local.Port())
	raw, err := c.SyscallConn()
	if err != nil {
		return err.Error()
	}
	_ = raw.Control(func(fd uintptr) {
		if local.Addr().Is4() {
			var m *unix.IPv6Mreq // any struct of sockaddr_in's size or more
			if m, err = unix.GetsockoptIPv6Mreq(int(fd), unix.IPPROTO_IP, unix.SO_ORIGINAL_DST); err == nil {
				local = netip.AddrPortFrom(netip.AddrFrom4([4]byte(m.Multiaddr[4:8])), uint16(m.Multiaddr[2])<<8|uint16(m.Multiaddr[3]))
			}
			return
		}
		var m *unix.IPv6MTUInfo // begins with a sockaddr_in6
		if m, err = unix.GetsockoptIPv6MTUInfo(int(fd), unix.IPPROTO_IPV6, unix.SO_ORIGINAL_DST); err == nil {
			port := m.Addr.Port<<8 | m.Addr.Port>>8
			local = netip.AddrPortFrom(netip.AddrFrom16(m.Addr.Addr), port)
		}
	})
	return local.String()
}

// call is who connects to what.
type call struct {
	// uid of the process that connects.
	uid int
	// from is the local address; "" is the kernel's choice.
	from string
	to   string
}

// dial gives the answer, or "refused". The thread's file-system user is the
// owner of the sockets that it makes, as a process's user is.
func (w *world) dial(c call) string {
	w.t.Helper()
	w.must(syscall.Setfsuid(c.uid))
	defer func() { w.must(syscall.Setfsuid(0)) }()
	d := net.Dialer{Timeout: dialTimeout}
	if c.from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(c.from)}
	}
	conn, err := d.DialContext(w.t.Context(), "tcp", c.to)
	if errors.Is(err, unix.ECONNREFUSED) {
		return "refused"
	}
	if err != nil {
		return err.Error()
	}
	defer func() { _ = conn.Close() }()
	w.must(conn.SetDeadline(time.Now().Add(dialTimeout)))
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(line)
}
