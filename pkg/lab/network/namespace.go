package network

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Namespace is a network namespace attached to the node, held by a file
// descriptor.
type Namespace struct {
	// Name is the one given, for messages.
	Name string
	// Addrs are its addresses, IPv4 first.
	Addrs []netip.Addr

	file *os.File
	link string // the node's end
	pod  bool   // its addresses are from the pool
}

// File is the namespace's descriptor, for sandbox.Spec.Network. It belongs to
// the Namespace: do not close it.
func (ns *Namespace) File() *os.File { return ns.file }

// Do runs f on an OS thread inside the namespace. Sockets that f opens stay in
// the namespace wherever they are used later; goroutines that f starts do not
// run in it.
func (ns *Namespace) Do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(ns.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter the network of %s: %w", ns.Name, err)
		}
		return f()
	})
}

// onThread runs f on an OS thread that is used for nothing else: it is never
// unlocked and so ends with its goroutine, whatever namespace it is in.
func onThread(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		result <- f()
	}()
	return <-result
}

// newNamespace makes an unnamed network namespace.
func newNamespace(name string) (*Namespace, error) {
	ns := &Namespace{Name: name}
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace for %s: %w", name, err)
		}
		var err error
		ns.file, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	return ns, err
}

// sysctl is a name with dots and its value.
type sysctl struct{ name, value string }

// set writes a sysctl of the thread's network namespace.
func (s sysctl) set() error {
	path := filepath.Join("/proc/sys", strings.ReplaceAll(s.name, ".", "/"))
	if err := os.WriteFile(path, []byte(s.value), 0o644); err != nil {
		return fmt.Errorf("set sysctl %s=%s: %w", s.name, s.value, err)
	}
	return nil
}

// setAll writes sysctls in order.
func setAll(list []sysctl) error {
	for _, s := range list {
		if err := s.set(); err != nil {
			return err
		}
	}
	return nil
}

// checkSysctls refuses what does not belong to a pod's own network.
func checkSysctls(sysctls map[string]string) error {
	for name := range sysctls {
		if !strings.HasPrefix(name, "net.") || strings.ContainsAny(name, "/") || strings.Contains(name, "..") {
			return fmt.Errorf("sysctl %q: only net.* belongs to a pod", name)
		}
	}
	return nil
}
