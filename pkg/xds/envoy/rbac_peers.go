package envoy

import (
	"slices"
	"strings"

	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/meshd-io/meshd/pkg/model"
)

// Envoy evaluates a connection's RBAC when the peer's first bytes arrive. A
// server that speaks first would have spoken by then, to anybody. So on opaque
// chains who may connect at all is decided earlier too: by the names that the
// handshake takes, and for plaintext, where nobody has one, by whether any rule
// could let such a peer in. Both let through at least what RBAC lets through.

// peers are SPIFFE IDs: everybody, or those of the lists.
type peers struct {
	everybody       bool
	exact, prefixes []string
}

func (p *peers) add(s model.AuthzSource) {
	if len(s.Identities)+len(s.IdentityPrefixes) == 0 {
		p.everybody = true
	}
	p.exact = append(p.exact, s.Identities...)
	p.prefixes = append(p.prefixes, s.IdentityPrefixes...)
}

// has reports whether an ID is one of them.
func (p peers) has(id string) bool {
	return p.everybody || slices.Contains(p.exact, id) ||
		slices.ContainsFunc(p.prefixes, func(s string) bool { return strings.HasPrefix(id, s) })
}

// allowedPeers may pass a port's Allow policies as far as their identity goes.
func allowedPeers(p model.InboundPort) peers {
	out := peers{everybody: len(p.Authz.Allow) == 0 && !p.Authz.DefaultDeny}
	for _, policy := range p.Authz.Allow {
		for _, r := range policy.Rules {
			if !mayAllowBytes(r, p.Port) {
				continue
			}
			if len(r.Sources) == 0 {
				out.everybody = true
			}
			for _, s := range r.Sources {
				if s.JWT == nil && !s.ForwardedCIDR.IsValid() {
					out.add(s)
				}
			}
		}
	}
	return out
}

// mayAllowBytes: a rule that looks at requests allows no bytes.
func mayAllowBytes(r model.AuthzRule, port uint16) bool {
	return len(r.To) == 0 || slices.ContainsFunc(r.To, func(to model.AuthzTo) bool {
		return !to.NeedsHTTP() && (len(to.Ports) == 0 || port == 0 || slices.Contains(to.Ports, port))
	})
}

// deniedPeers are refused by a port's Deny policies wherever they come from.
func deniedPeers(p model.InboundPort) peers {
	var out peers
	for _, policy := range p.Authz.Deny {
		if len(policy.Rules) == 0 {
			out.everybody = true
		}
		for _, r := range policy.Rules {
			whole := len(r.To) == 0 || slices.ContainsFunc(r.To, func(to model.AuthzTo) bool {
				return len(to.Ports) == 0 || slices.Contains(to.Ports, p.Port)
			})
			if !whole {
				continue
			}
			if len(r.Sources) == 0 {
				out.everybody = true
			}
			for _, s := range r.Sources {
				if !s.CIDR.IsValid() {
					out.add(s)
				}
			}
		}
	}
	return out
}

// handshakeNames are the names that an opaque port's handshakes take; none = all.
func handshakeNames(p model.InboundPort) []*matcherv3.StringMatcher {
	allowed, denied := allowedPeers(p), deniedPeers(p)
	switch {
	case denied.everybody:
		return []*matcherv3.StringMatcher{exactly(noIdentity)}
	case allowed.everybody && len(denied.exact)+len(denied.prefixes) == 0:
		return nil
	case allowed.everybody:
		return []*matcherv3.StringMatcher{fully(nobodyOf(denied))}
	}
	var out []*matcherv3.StringMatcher
	for _, id := range sortedOnce(allowed.exact) {
		if !denied.has(id) {
			out = append(out, exactly(id))
		}
	}
	for _, prefix := range sortedOnce(allowed.prefixes) {
		out = append(out, startingWith(prefix))
	}
	if len(out) == 0 {
		out = append(out, exactly(noIdentity))
	}
	return out
}

// plaintextMayPass reports whether any peer without an identity could be let in.
func plaintextMayPass(p model.InboundPort) bool {
	return allowedPeers(p).everybody && !deniedPeers(p).everybody
}

func sortedOnce(list []string) []string {
	out := slices.Clone(list)
	slices.Sort(out)
	return slices.Compact(out)
}

// nobodyOf is a pattern for every string but those of p. RE2 has no negation,
// so the strings' common trie is written out with the ways that leave it.
func nobodyOf(p peers) string {
	root := &trie{}
	for _, s := range p.exact {
		root.insert(s).ends = true
	}
	for _, s := range p.prefixes {
		root.insert(s).all = true
	}
	return root.others()
}

type trie struct {
	next map[byte]*trie
	ends bool // the string that ends here
	all  bool // whatever starts with what ends here
}

func (t *trie) insert(s string) *trie {
	for i := range len(s) {
		if t.next == nil {
			t.next = map[byte]*trie{}
		}
		if t.next[s[i]] == nil {
			t.next[s[i]] = &trie{}
		}
		t = t.next[s[i]]
	}
	return t
}

// others matches what goes on from here to none of the trie's strings.
func (t *trie) others() string {
	var taken []byte
	for c := range t.next {
		taken = append(taken, c)
	}
	slices.Sort(taken)
	var ways []string
	var class strings.Builder
	for _, c := range taken {
		class.WriteString(`\` + quotedByte(c))
		if !t.next[c].all {
			ways = append(ways, quoted(string(c))+t.next[c].others())
		}
	}
	if class.Len() > 0 {
		ways = append(ways, "[^"+class.String()+"].*")
	} else {
		ways = append(ways, ".+")
	}
	if !t.ends {
		ways = append(ways, "")
	}
	return "(?:" + strings.Join(ways, "|") + ")"
}

// quotedByte is a byte as an escape that means itself inside of a class.
func quotedByte(c byte) string {
	const hex = "0123456789abcdef"
	return "x" + string([]byte{hex[c>>4], hex[c&0xf]})
}
