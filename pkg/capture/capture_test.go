package capture

import (
	"net"
	"net/netip"
	"testing"
	"time"
)

// serve starts the proxy's listeners and an application in the pod, and servers outside.
func (w *world) serve() {
	w.in(w.pod, func() {
		w.listen("15001", ":15001")
		w.listen("15006", ":15006")
		w.listen("15003", "127.0.0.1:15003")
		w.listen("15021", ":15021")
		w.listen("app", ":8080")
		w.listen("app", ":9090")
	})
	w.in(w.outside, func() {
		w.listen("server", ":80")
		w.listen("server", ":5432")
	})
}

const (
	app   = 1000 // some application's user
	other = 2000
	proxy = int(ProxyUID)
)

func TestFromPod(t *testing.T) {
	w := newWorld(t)
	w.serve()
	w.capture(Config{})
	for name, tc := range map[string]struct {
		call
		want string
	}{
		"outbound IPv4":                         {call{app, "", outside4 + ":80"}, "15001 10.77.0.1:80"},
		"outbound IPv6":                         {call{app, "", "[fd77::1]:80"}, "15001 [fd77::1]:80"},
		"outbound as root":                      {call{0, "", outside4 + ":80"}, "15001 10.77.0.1:80"},
		"outbound to a port of the proxy":       {call{app, "", outside4 + ":15006"}, "15001 10.77.0.1:15006"},
		"the proxy itself":                      {call{proxy, "", outside4 + ":80"}, "server 10.77.0.1:80"},
		"the proxy itself, IPv6":                {call{proxy, "", "[fd77::1]:80"}, "server [fd77::1]:80"},
		"loopback":                              {call{app, "", "127.0.0.1:8080"}, "app 127.0.0.1:8080"},
		"loopback IPv6":                         {call{app, "", "[::1]:8080"}, "app [::1]:8080"},
		"own address":                           {call{app, "", pod4 + ":8080"}, "app 10.77.0.2:8080"},
		"own address IPv6":                      {call{app, "", "[fd77::2]:8080"}, "app [fd77::2]:8080"},
		"proxy to loopback":                     {call{proxy, "", "127.0.0.1:8080"}, "app 127.0.0.1:8080"},
		"proxy to loopback IPv6":                {call{proxy, "", "[::1]:8080"}, "app [::1]:8080"},
		"self-call":                             {call{proxy, "", pod4 + ":8080"}, "15006 10.77.0.2:8080"},
		"self-call IPv6":                        {call{proxy, "", "[fd77::2]:8080"}, "15006 [fd77::2]:8080"},
		"self-call to the plain port":           {call{proxy, "", pod4 + ":15021"}, "15021 10.77.0.2:15021"},
		"delivery":                              {call{proxy, "127.0.0.6", pod4 + ":8080"}, "app 10.77.0.2:8080"},
		"delivery IPv6":                         {call{proxy, "::6", "[fd77::2]:8080"}, "app [fd77::2]:8080"},
		"proxy to 15003":                        {call{proxy, "", "127.0.0.1:15003"}, "15003 127.0.0.1:15003"},
		"application to 15003":                  {call{app, "", "127.0.0.1:15003"}, "refused"},
		"root to 15003":                         {call{0, "", "127.0.0.1:15003"}, "refused"},
		"application to 15001":                  {call{app, "", "127.0.0.1:15001"}, "refused"},
		"application to 15001 at own address":   {call{app, "", pod4 + ":15001"}, "refused"},
		"application to 15006 over IPv6":        {call{app, "", "[fd77::2]:15006"}, "refused"},
		"the proxy to itself makes no loop":     {call{proxy, "", pod4 + ":15006"}, "refused"},
		"delivery to the proxy makes no loop":   {call{proxy, "127.0.0.6", pod4 + ":15006"}, "refused"},
		"application to the plain port":         {call{app, "", "127.0.0.1:15021"}, "15021 127.0.0.1:15021"},
		"outbound to a port that none listens":  {call{app, "", outside4 + ":9"}, "15001 10.77.0.1:9"},
		"the proxy where none listens: refused": {call{proxy, "", outside4 + ":9"}, "refused"},
	} {
		w.in(w.pod, func() {
			if got := w.dial(tc.call); got != tc.want {
				t.Errorf("%s: %+v: got %q, want %q", name, tc.call, got, tc.want)
			}
		})
	}
}

func TestFromOutside(t *testing.T) {
	w := newWorld(t)
	w.serve()
	w.capture(Config{InboundPorts: []uint16{9090}})
	w.in(w.outside, func() {
		for to, want := range map[string]string{
			pod4 + ":8080":    "15006 10.77.0.2:8080",
			"[fd77::2]:8080":  "15006 [fd77::2]:8080",
			pod4 + ":9":       "15006 10.77.0.2:9",
			pod4 + ":15021":   "15021 10.77.0.2:15021",
			"[fd77::2]:15021": "15021 [fd77::2]:15021",
			pod4 + ":9090":    "app 10.77.0.2:9090",
			"[fd77::2]:9090":  "app [fd77::2]:9090",
			pod4 + ":15001":   "refused",
			pod4 + ":15003":   "refused",
			pod4 + ":15006":   "refused",
			"[fd77::2]:15001": "refused",
			"[fd77::2]:15006": "refused",
		} {
			if got := w.dial(call{to: to}); got != want {
				t.Errorf("%s: got %q, want %q", to, got, want)
			}
		}
	})
}

func TestExclusions(t *testing.T) {
	w := newWorld(t)
	w.serve()
	w.capture(Config{
		InboundPorts:  []uint16{9090},
		OutboundPorts: []uint16{5432},
		OutboundCIDRs: []netip.Prefix{netip.MustParsePrefix("10.77.0.1/32"), netip.MustParsePrefix("10.64.0.0/10"), netip.MustParsePrefix("fd00::/16")},
		UIDs:          []uint32{other},
	})
	check := func(c call, want string) {
		t.Helper()
		if got := w.dial(c); got != want {
			t.Errorf("%+v: got %q, want %q", c, got, want)
		}
	}
	w.in(w.pod, func() {
		check(call{app, "", outside4 + ":80"}, "server 10.77.0.1:80")
		check(call{app, "", "[fd77::1]:80"}, "15001 [fd77::1]:80")
		check(call{app, "", "[fd77::1]:5432"}, "server [fd77::1]:5432")
		check(call{other, "", "[fd77::1]:80"}, "server [fd77::1]:80")
		check(call{proxy, "", pod4 + ":9090"}, "app 10.77.0.2:9090")
	})
	w.capture(Config{OutboundCIDRs: []netip.Prefix{netip.MustParsePrefix("fd77::/64")}})
	w.in(w.pod, func() {
		check(call{app, "", outside4 + ":80"}, "15001 10.77.0.1:80")
		check(call{app, "", "[fd77::1]:80"}, "server [fd77::1]:80")
		check(call{app, "", outside4 + ":5432"}, "15001 10.77.0.1:5432")
		check(call{other, "", outside4 + ":80"}, "15001 10.77.0.1:80")
	})
}

func TestUDPIsLeftAlone(t *testing.T) {
	w := newWorld(t)
	w.capture(Config{})
	var server *net.UDPConn
	w.in(w.outside, func() {
		var err error
		server, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(outside4), Port: 53})
		w.must(err)
	})
	defer func() { _ = server.Close() }()
	w.in(w.pod, func() {
		client, err := net.DialUDP("udp", nil, server.LocalAddr().(*net.UDPAddr))
		w.must(err)
		defer func() { _ = client.Close() }()
		_, err = client.Write([]byte("question"))
		w.must(err)
		w.must(server.SetDeadline(time.Now().Add(dialTimeout)))
		buf := make([]byte, 64)
		n, from, err := server.ReadFromUDP(buf)
		w.must(err)
		if string(buf[:n]) != "question" || from.String() != client.LocalAddr().String() {
			t.Errorf("got %q from %v", buf[:n], from)
		}
		_, err = server.WriteToUDP([]byte("answer"), from)
		w.must(err)
		w.must(client.SetDeadline(time.Now().Add(dialTimeout)))
		if n, err = client.Read(buf); err != nil || string(buf[:n]) != "answer" {
			t.Errorf("got %q, %v", buf[:n], err)
		}
	})
}
