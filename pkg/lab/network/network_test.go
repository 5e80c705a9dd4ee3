package network_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/meshd-io/meshd/pkg/lab/network"
)

// patience bounds every wait on the network; nothing takes that long.
const patience = 10 * time.Second

// inNode runs a test in a fresh network namespace that plays the node. The
// thread is never unlocked: it ends with the test.
func inNode(t *testing.T, test func(n *network.Network)) {
	t.Helper()
	current := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, current) }) // after those of the test
	inFreshNamespace(t, func() {
		n, err := network.New(network.DefaultConfig())
		if err != nil {
			t.Error(err)
			return
		}
		test(n)
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
}

func inFreshNamespace(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Error(err)
			return
		}
		f()
	}()
	<-done
}

// place is where sockets are made: a Namespace, or the node.
type place interface{ Do(func() error) error }

type node struct{}

func (node) Do(f func() error) error { return f() }

// greeter accepts TCP connections in a namespace and answers each with
// "NAME CLIENT-IP", then echoes lines.
func greeter(t *testing.T, in place, name string, at netip.AddrPort) {
	t.Helper()
	var l net.Listener
	err := in.Do(func() (err error) {
		l, err = net.Listen("tcp", at.String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				client := c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
				fmt.Fprintf(c, "%s %s\n", name, client)
				_, _ = io.Copy(c, c)
			}()
		}
	}()
}

func dial(in place, to netip.AddrPort) (c net.Conn, err error) {
	err = in.Do(func() (err error) {
		c, err = net.DialTimeout("tcp", to.String(), patience)
		return err
	})
	return c, err
}

// greeting connects and returns the server's name and whom it saw.
func greeting(t *testing.T, in place, to netip.AddrPort) (name, client string) {
	t.Helper()
	c, err := dial(in, to)
	if err != nil {
		t.Fatalf("connect to %s: %v", to, err)
	}
	defer c.Close()
	return readGreeting(t, bufio.NewReader(c))
}

func readGreeting(t *testing.T, r *bufio.Reader) (name, client string) {
	t.Helper()
	line, err := r.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	name, client, _ = strings.Cut(strings.TrimSpace(line), " ")
	return name, client
}

func pod(t *testing.T, n *network.Network, name string) *network.Namespace {
	t.Helper()
	ns, err := n.AddPod(name, nil)
	if err != nil {
		t.Fatal(err)
	}
	return ns
}

func TestPodsReachEachOther(t *testing.T) {
	inNode(t, func(n *network.Network) {
		a, b := pod(t, n, "a"), pod(t, n, "b")
		for i, addr := range b.Addrs {
			at := netip.AddrPortFrom(addr, 8080)
			greeter(t, b, "b", at)
			if name, client := greeting(t, a, at); name != "b" || client != a.Addrs[i].String() {
				t.Errorf("%s: got %s from %s", at, name, client)
			}
			// The node itself, as a probe.
			if name, client := greeting(t, node{}, at); name != "b" || client != n.Config().Node()[i].String() {
				t.Errorf("%s from the node: got %s from %s", at, name, client)
			}
		}
	})
}

func clusterIPs() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("fd00:10:96::10")}
}

// TestClusterIP: both families, all endpoints get connections, the server sees
// the client's own address.
func TestClusterIP(t *testing.T) {
	inNode(t, func(n *network.Network) {
		client, a, b := pod(t, n, "client"), pod(t, n, "a"), pod(t, n, "b")
		var ports []network.ServicePort
		for i, ip := range clusterIPs() {
			p := network.ServicePort{IP: ip, Port: 80, Protocol: network.TCP}
			for _, e := range []*network.Namespace{a, b} {
				at := netip.AddrPortFrom(e.Addrs[i], 8080)
				greeter(t, e, e.Name, at)
				p.Endpoints = append(p.Endpoints, at)
			}
			ports = append(ports, p)
		}
		if err := n.SetServices(ports); err != nil {
			t.Fatal(err)
		}
		for i, ip := range clusterIPs() {
			seen := map[string]int{}
			for range 40 { // the chance that one of two is never picked: 2^-39
				name, from := greeting(t, client, netip.AddrPortFrom(ip, 80))
				seen[name]++
				if from != client.Addrs[i].String() {
					t.Fatalf("%s: the server saw %s", ip, from)
				}
			}
			if seen["a"] == 0 || seen["b"] == 0 {
				t.Errorf("%s: %v", ip, seen)
			}
			if name, _ := greeting(t, node{}, netip.AddrPortFrom(ip, 80)); name != "a" && name != "b" {
				t.Errorf("%s from the node: %q", ip, name)
			}
		}
	})
}

// TestNodeEndpoint: a Service whose endpoint is a process of the lab itself
// (meshd), as pods and the node see it.
func TestNodeEndpoint(t *testing.T) {
	inNode(t, func(n *network.Network) {
		a := pod(t, n, "a")
		var ports []network.ServicePort
		for i, ip := range clusterIPs() {
			at := netip.AddrPortFrom(n.Config().Node()[i], 15012)
			greeter(t, node{}, "meshd", at)
			ports = append(ports, network.ServicePort{IP: ip, Port: 15012, Endpoints: []netip.AddrPort{at}})
		}
		if err := n.SetServices(ports); err != nil {
			t.Fatal(err)
		}
		for i, ip := range clusterIPs() {
			if name, from := greeting(t, a, netip.AddrPortFrom(ip, 15012)); name != "meshd" || from != a.Addrs[i].String() {
				t.Errorf("%s: got %s from %s", ip, name, from)
			}
			if name, _ := greeting(t, node{}, netip.AddrPortFrom(ip, 15012)); name != "meshd" {
				t.Errorf("%s from the node: got %s", ip, name)
			}
		}
	})
}

// TestHairpin: a pod reaches itself through its Service.
func TestHairpin(t *testing.T) {
	inNode(t, func(n *network.Network) {
		a := pod(t, n, "a")
		var ports []network.ServicePort
		for i, ip := range clusterIPs() {
			at := netip.AddrPortFrom(a.Addrs[i], 8080)
			greeter(t, a, "a", at)
			ports = append(ports, network.ServicePort{IP: ip, Port: 80, Endpoints: []netip.AddrPort{at}})
		}
		if err := n.SetServices(ports); err != nil {
			t.Fatal(err)
		}
		for i, ip := range clusterIPs() {
			name, from := greeting(t, a, netip.AddrPortFrom(ip, 80))
			if name != "a" || from != n.Config().Node()[i].String() {
				t.Errorf("%s: got %s from %s", ip, name, from)
			}
		}
	})
}

// TestRefused: what no endpoint answers for is refused at once.
func TestRefused(t *testing.T) {
	inNode(t, func(n *network.Network) {
		a := pod(t, n, "a")
		err := n.SetServices([]network.ServicePort{
			{IP: clusterIPs()[0], Port: 80}, {IP: clusterIPs()[1], Port: 80},
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, to := range []netip.AddrPort{
			netip.AddrPortFrom(clusterIPs()[0], 80), // no endpoints
			netip.AddrPortFrom(clusterIPs()[1], 80),
			netip.AddrPortFrom(clusterIPs()[0], 81),  // no such port
			netip.MustParseAddrPort("10.96.77.1:80"), // no such service
			netip.MustParseAddrPort("[fd00:10:96::77]:80"),
		} {
			for _, from := range []place{a, node{}} {
				if _, err := dial(from, to); !errors.Is(err, syscall.ECONNREFUSED) {
					t.Errorf("%s from %T: %v", to, from, err)
				}
			}
		}
	})
}

// TestReplaceServices: a new set applies to new connections, an old connection
// stays where it is.
func TestReplaceServices(t *testing.T) {
	inNode(t, func(n *network.Network) {
		client, a, b := pod(t, n, "client"), pod(t, n, "a"), pod(t, n, "b")
		vip := netip.AddrPortFrom(clusterIPs()[0], 80)
		for _, e := range []*network.Namespace{a, b} {
			greeter(t, e, e.Name, netip.AddrPortFrom(e.Addrs[0], 8080))
		}
		set := func(e *network.Namespace) {
			t.Helper()
			if err := n.SetServices([]network.ServicePort{{IP: vip.Addr(), Port: vip.Port(),
				Endpoints: []netip.AddrPort{netip.AddrPortFrom(e.Addrs[0], 8080)}}}); err != nil {
				t.Fatal(err)
			}
		}
		set(a)
		old, err := dial(client, vip)
		if err != nil {
			t.Fatal(err)
		}
		defer old.Close()
		r := bufio.NewReader(old)
		if name, _ := readGreeting(t, r); name != "a" {
			t.Errorf("got %s", name)
		}
		set(b)
		if name, _ := greeting(t, client, vip); name != "b" {
			t.Errorf("after the change: got %s", name)
		}
		fmt.Fprintln(old, "still here")
		if line, err := r.ReadString('\n'); line != "still here\n" {
			t.Errorf("the old connection: %q, %v", line, err)
		}
	})
}

// TestReplaceUnderLoad: no connection fails while the rules are replaced.
func TestReplaceUnderLoad(t *testing.T) {
	inNode(t, func(n *network.Network) {
		client, a := pod(t, n, "client"), pod(t, n, "a")
		vip := netip.AddrPortFrom(clusterIPs()[0], 80)
		at := netip.AddrPortFrom(a.Addrs[0], 8080)
		greeter(t, a, "a", at)
		ports := []network.ServicePort{{IP: vip.Addr(), Port: vip.Port(), Endpoints: []netip.AddrPort{at}}}
		if err := n.SetServices(ports); err != nil {
			t.Fatal(err)
		}
		const connections, replacements = 500, 50
		failed := make(chan error, 1)
		go func() {
			failed <- client.Do(func() error {
				for range connections {
					c, err := net.DialTimeout("tcp", vip.String(), patience)
					if err != nil {
						return err
					}
					_, err = bufio.NewReader(c).ReadString('\n')
					c.Close()
					if err != nil {
						return err
					}
				}
				return nil
			})
		}()
		for range replacements {
			if err := n.SetServices(ports); err != nil {
				t.Error(err)
			}
		}
		if err := <-failed; err != nil {
			t.Error(err)
		}
	})
}

func TestUDPService(t *testing.T) {
	inNode(t, func(n *network.Network) {
		client, a := pod(t, n, "client"), pod(t, n, "a")
		at := netip.AddrPortFrom(a.Addrs[0], 5353)
		var server net.PacketConn
		var c net.Conn
		err := errors.Join(
			n.SetServices([]network.ServicePort{{IP: clusterIPs()[0], Port: 53, Protocol: network.UDP, Endpoints: []netip.AddrPort{at}}}),
			a.Do(func() (err error) { server, err = net.ListenPacket("udp", at.String()); return err }),
			client.Do(func() (err error) { c, err = net.Dial("udp", "10.96.0.10:53"); return err }))
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		defer c.Close()
		buf := make([]byte, 16)
		_ = c.SetDeadline(time.Now().Add(patience))
		_ = server.SetDeadline(time.Now().Add(patience))
		fmt.Fprint(c, "ask")
		k, from, err := server.ReadFrom(buf)
		if err != nil || string(buf[:k]) != "ask" {
			t.Fatalf("%q, %v", buf[:k], err)
		}
		if _, err := server.WriteTo([]byte("answer"), from); err != nil {
			t.Fatal(err)
		}
		if k, err := c.Read(buf); err != nil || string(buf[:k]) != "answer" {
			t.Errorf("%q, %v", buf[:k], err)
		}
	})
}

func TestExternal(t *testing.T) {
	inNode(t, func(n *network.Network) {
		a := pod(t, n, "a")
		addrs := []netip.Addr{netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("2001:db8::10")}
		ext, err := n.AddExternal("api", addrs)
		if err != nil {
			t.Fatal(err)
		}
		for i, addr := range addrs {
			at := netip.AddrPortFrom(addr, 443)
			greeter(t, ext, "api", at)
			if name, client := greeting(t, a, at); name != "api" || client != a.Addrs[i].String() {
				t.Errorf("%s: got %s from %s", at, name, client)
			}
			back := netip.AddrPortFrom(a.Addrs[i], 8080)
			greeter(t, a, "a", back)
			if name, client := greeting(t, ext, back); name != "a" || client != addr.String() {
				t.Errorf("%s: got %s from %s", back, name, client)
			}
		}
		for _, bad := range []string{"10.244.3.3", "fd00:10:96::3", "192.0.2.10"} {
			if _, err := n.AddExternal("bad", []netip.Addr{netip.MustParseAddr(bad)}); err == nil {
				t.Errorf("%s was accepted", bad)
			}
		}
	})
}

func TestSysctls(t *testing.T) {
	inNode(t, func(n *network.Network) {
		const key, file = "net.ipv4.ip_unprivileged_port_start", "/proc/sys/net/ipv4/ip_unprivileged_port_start"
		a, err := n.AddPod("a", map[string]string{key: "80"})
		if err != nil {
			t.Fatal(err)
		}
		b := pod(t, n, "b")
		read := func(in place) (s string) {
			err := in.Do(func() error {
				raw, err := os.ReadFile(file)
				s = strings.TrimSpace(string(raw))
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		if read(a) != "80" || read(b) != "0" || read(node{}) == "80" {
			t.Errorf("a %s, b %s, node %s", read(a), read(b), read(node{}))
		}
		for _, bad := range []map[string]string{
			{"kernel.hostname": "x"}, {"net.ipv4.no_such_thing": "1"}, {"net.ipv4/../../kernel/hostname": "x"}, {key: "many"},
		} {
			if _, err := n.AddPod("bad", bad); err == nil {
				t.Errorf("%v was accepted", bad)
			}
		}
	})
}

// TestRemove: nothing of a pod stays in the node, and its address is not given
// to the next.
func TestRemove(t *testing.T) {
	inNode(t, func(n *network.Network) {
		before := linkNames(t)
		a := pod(t, n, "a")
		greeter(t, a, "a", netip.AddrPortFrom(a.Addrs[0], 8080))
		if err := n.Remove(a); err != nil {
			t.Fatal(err)
		}
		if after := linkNames(t); !slices.Equal(before, after) {
			t.Errorf("links before %v, after %v", before, after)
		}
		b := pod(t, n, "b")
		if b.Addrs[0] == a.Addrs[0] || b.Addrs[1] == a.Addrs[1] {
			t.Errorf("b got the address of a: %v", b.Addrs)
		}
		if err := n.Remove(a); err != nil {
			t.Errorf("second removal: %v", err)
		}
	})
}

func linkNames(t *testing.T) []string {
	t.Helper()
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, l := range links {
		out = append(out, l.Attrs().Name)
	}
	return out
}

// TestManyServices: the rules of a large lab fit into one transaction.
func TestManyServices(t *testing.T) {
	inNode(t, func(n *network.Network) {
		var ports []network.ServicePort
		for i := range 1000 {
			p := network.ServicePort{IP: netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)}), Port: 80}
			for j := range 5 {
				p.Endpoints = append(p.Endpoints, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, byte(j), byte(i)}), 8080))
			}
			ports = append(ports, p)
		}
		if err := n.SetServices(ports); err != nil {
			t.Fatal(err)
		}
	})
}
