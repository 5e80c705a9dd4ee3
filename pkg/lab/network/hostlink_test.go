package network_test

import (
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/meshd-io/meshd/pkg/lab/network"
)

// otherNamespace is a process in a network namespace of its own: the lab's
// PID 1, as LinkHost sees it.
func otherNamespace(t *testing.T) (pid int, enter func(f func())) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("cat") // ends with its input
	cmd.Stdin = r
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ns, err := os.Open("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ns.Close()
		w.Close()
		r.Close()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid, func(f func()) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread()
			if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
				t.Error(err)
				return
			}
			f()
		}()
		<-done
	}
}

// TestHostLink: the host reaches pods and services, and nothing stays.
func TestHostLink(t *testing.T) {
	inFreshNamespace(t, func() {
		before := linkNames(t)
		pid, enter := otherNamespace(t)
		cfg := network.DefaultConfig()
		link, err := network.LinkHost(cfg, pid)
		if err != nil {
			t.Error(err)
			return
		}
		enter(func() {
			n, err := network.New(cfg)
			if err != nil {
				t.Error(err)
				return
			}
			a := pod(t, n, "a")
			var ports []network.ServicePort
			for i, ip := range clusterIPs() {
				at := netip.AddrPortFrom(a.Addrs[i], 8080)
				greeter(t, a, "a", at)
				ports = append(ports, network.ServicePort{IP: ip, Port: 80, Endpoints: []netip.AddrPort{at}})
			}
			if err := n.SetServices(ports); err != nil {
				t.Error(err)
			}
		})
		for i, ip := range clusterIPs() {
			if name, from := greeting(t, node{}, netip.AddrPortFrom(ip, 80)); name != "a" || from != cfg.Host()[i].String() {
				t.Errorf("%s: got %s from %s", ip, name, from)
			}
		}
		if _, err := network.LinkHost(cfg, pid); err == nil || !strings.Contains(err.Error(), "choose other ranges") {
			t.Errorf("a second lab with the same ranges: %v", err)
		}
		if err := network.UnlinkHost(link); err != nil {
			t.Error(err)
		}
		if err := network.UnlinkHost(link); err != nil {
			t.Errorf("second removal: %v", err)
		}
		if after := linkNames(t); !slices.Equal(before, after) {
			t.Errorf("links before %v, after %v", before, after)
		}
		routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
		if err != nil || len(routes) != 0 {
			t.Errorf("routes stay: %v, %v", routes, err)
		}
	})
}

// TestNewRefusesAMachine: a namespace with a network of its own is not the
// lab's.
func TestNewRefusesAMachine(t *testing.T) {
	inFreshNamespace(t, func() {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "up0"
		veth := &netlink.Veth{LinkAttrs: attrs, PeerName: "up1"}
		if err := netlink.LinkAdd(veth); err != nil {
			t.Error(err)
		}
		if err := netlink.LinkSetUp(veth); err != nil {
			t.Error(err)
		}
		if _, err := network.New(network.DefaultConfig()); err == nil || !strings.Contains(err.Error(), "up0") {
			t.Errorf("got %v", err)
		}
	})
}
