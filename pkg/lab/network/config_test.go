package network

import (
	"net/netip"
	"strings"
	"testing"
)

func TestNth(t *testing.T) {
	for _, c := range []struct {
		prefix string
		n      int
		want   string
	}{
		{"10.244.0.0/16", 1, "10.244.0.1"},
		{"10.244.0.0/16", 256, "10.244.1.0"},
		{"10.244.0.0/16", 65535, "10.244.255.255"},
		{"10.244.0.0/16", 65536, "invalid IP"},
		{"fd00:10:244::/64", 10, "fd00:10:244::a"},
		{"fd00:10:244::/64", 65536, "fd00:10:244::1:0"},
	} {
		if got := nth(netip.MustParsePrefix(c.prefix), c.n); got.String() != c.want {
			t.Errorf("%s, %d: got %s, want %s", c.prefix, c.n, got, c.want)
		}
	}
}

// TestPool: in order, and a second time only when all have been used.
func TestPool(t *testing.T) {
	p := newPool(Range{V4: netip.MustParsePrefix("10.0.0.0/26"), V6: netip.MustParsePrefix("fd00::/122")})
	var all [][]netip.Addr
	for {
		a, err := p.take()
		if err != nil {
			break
		}
		all = append(all, a)
		if len(all) == 3 {
			p.give(all[1])
		}
	}
	const usable = 64 - firstPod - 1
	if len(all) != usable+1 {
		t.Fatalf("got %d pairs, want %d and one again", len(all), usable)
	}
	if first := all[0][0].String(); first != "10.0.0.10" {
		t.Errorf("first %s", first)
	}
	if last := all[usable]; last[0] != all[1][0] || last[1] != all[1][1] {
		t.Errorf("the one given back is %v, got %v", all[1], last)
	}
}

func TestValidate(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*Config){
		"not a prefix": func(c *Config) { c.Pods.V4 = netip.Prefix{} },
		"that family":  func(c *Config) { c.Pods.V4 = c.Pods.V6 },
		"bits set":     func(c *Config) { c.Services.V4 = netip.MustParsePrefix("10.96.0.1/16") },
		"too small":    func(c *Config) { c.Pods.V4 = netip.MustParsePrefix("10.244.0.0/28") },
		"overlap":      func(c *Config) { c.Services.V4 = netip.MustParsePrefix("10.244.128.0/17") },
	} {
		c := DefaultConfig()
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}
