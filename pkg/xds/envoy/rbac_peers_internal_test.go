package envoy

import (
	"net/netip"
	"regexp"
	"testing"

	"github.com/meshd-io/meshd/pkg/model"
)

const (
	alice = "spiffe://cluster.local/ns/shop/sa/alice"
	bob   = "spiffe://cluster.local/ns/shop/sa/bob"
	ops   = "spiffe://cluster.local/ns/ops/"
)

func TestNobodyOf(t *testing.T) {
	pattern := regexp.MustCompile("^(?:" + nobodyOf(peers{exact: []string{alice, bob, bob + "-2"}, prefixes: []string{ops}}) + ")$")
	for s, want := range map[string]bool{
		alice: false, bob: false, bob + "-2": false, ops: false, ops + "sa/x": false,
		alice + "2": true, bob + "-": true, bob + "-22": true, "spiffe://cluster.local/ns/op": true, "spiffe://cluster.local/ns/opsx/": true,
		"": true, "x": true, "spiffe://other/ns/shop/sa/alice": true, "spiffe://cluster.local/ns/shop/sa/ali": true,
	} {
		if got := pattern.MatchString(s); got != want {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	}
}

// TestHandshakeNames: whom a server that speaks first may speak to.
func TestHandshakeNames(t *testing.T) {
	from := func(s ...model.AuthzSource) []model.AuthzPolicy {
		return []model.AuthzPolicy{{Rules: []model.AuthzRule{{Sources: s}}}}
	}
	aliceOnly := model.AuthzSource{Identities: []string{alice}}
	opsOnly := model.AuthzSource{IdentityPrefixes: []string{ops}}
	everybody := []model.AuthzPolicy{{Rules: []model.AuthzRule{{}}}}
	cidr := netip.MustParsePrefix("10.0.0.0/8")
	for name, c := range map[string]struct {
		authz      model.Authz
		taken, not []string
		plaintext  bool
	}{
		"no policy":         {model.Authz{}, []string{alice, bob}, nil, true},
		"default deny":      {model.Authz{DefaultDeny: true}, nil, []string{alice, bob}, false},
		"allow alice":       {model.Authz{Allow: from(aliceOnly)}, []string{alice}, []string{bob}, false},
		"allow ops":         {model.Authz{Allow: from(opsOnly)}, []string{ops + "sa/x"}, []string{bob}, false},
		"allow everybody":   {model.Authz{Allow: everybody}, []string{alice, bob}, nil, true},
		"allow by address":  {model.Authz{Allow: from(model.AuthzSource{CIDR: cidr})}, []string{alice}, nil, true},
		"allow nothing":     {model.Authz{Allow: []model.AuthzPolicy{{}}}, nil, []string{alice}, false},
		"deny alice":        {model.Authz{Deny: from(aliceOnly)}, []string{bob}, []string{alice}, true},
		"deny ops":          {model.Authz{Deny: from(opsOnly)}, []string{bob}, []string{ops + "sa/x"}, true},
		"deny everybody":    {model.Authz{Deny: everybody}, nil, []string{alice, bob}, false},
		"broken deny":       {model.Authz{Deny: []model.AuthzPolicy{{}}}, nil, []string{alice}, false},
		"deny beats allow":  {model.Authz{Allow: from(aliceOnly, model.AuthzSource{Identities: []string{bob}}), Deny: from(aliceOnly)}, []string{bob}, []string{alice}, false},
		"deny some of them": {model.Authz{Deny: from(model.AuthzSource{Identities: []string{alice}, CIDR: cidr})}, []string{alice, bob}, nil, true},
		"allow requests": {model.Authz{Allow: []model.AuthzPolicy{{Rules: []model.AuthzRule{{
			Sources: []model.AuthzSource{aliceOnly}, To: []model.AuthzTo{{Methods: []string{"GET"}}},
		}}}}}, nil, []string{alice}, false},
		"deny another port": {model.Authz{Deny: []model.AuthzPolicy{{Rules: []model.AuthzRule{{To: []model.AuthzTo{{Ports: []uint16{1}}}}}}}}, []string{alice}, nil, true},
		"token":             {model.Authz{Allow: from(model.AuthzSource{JWT: &model.JWTSource{}})}, nil, []string{alice}, false},
	} {
		p := model.InboundPort{Port: 5432, Protocol: model.TCP, Authz: c.authz}
		for _, id := range c.taken {
			if !takes(p, id) {
				t.Errorf("%s: %s is refused", name, id)
			}
		}
		for _, id := range c.not {
			if takes(p, id) {
				t.Errorf("%s: %s is taken", name, id)
			}
		}
		if got := plaintextMayPass(p); got != c.plaintext {
			t.Errorf("%s: plaintext may pass: %v", name, got)
		}
	}
}

// takes does what Envoy does with the names of a validation context.
func takes(p model.InboundPort, id string) bool {
	names := handshakeNames(p)
	for _, m := range names {
		if m.GetExact() == id || m.GetPrefix() != "" && len(id) >= len(m.GetPrefix()) && id[:len(m.GetPrefix())] == m.GetPrefix() {
			return true
		}
		if r := m.GetSafeRegex(); r != nil && regexp.MustCompile("^(?:"+r.GetRegex()+")$").MatchString(id) {
			return true
		}
	}
	return names == nil
}
