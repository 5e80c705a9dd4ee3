package policy

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/compile/object"
	"github.com/meshd-io/meshd/pkg/identity"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// source reads a source; can is false for one that can never match.
func (r *authzReader) source(field string, s meshv1a1.AuthorizationSource) (out model.AuthzSource, can bool) {
	if s.ServiceAccount == nil && s.SPIFFE == "" && s.JWT == nil && s.CIDR == "" && s.ForwardedCIDR == "" {
		r.refuse(field, "an empty source names no one: leave sources out to mean anyone")
		return out, true
	}
	var path string // of serviceAccount and spiffe, "/" at its end for a prefix
	if s.ServiceAccount != nil {
		path = r.serviceAccount(field+".serviceAccount", *s.ServiceAccount)
	}
	if s.SPIFFE != "" {
		spiffe := r.spiffe(field+".spiffe", s.SPIFFE)
		both, ok := both(path, spiffe)
		if !ok {
			r.refuse(field, "no one is both the serviceAccount and the spiffe of one source: write two sources to mean either")
		}
		path = both
	}
	r.identify(&out, path)
	out.CIDR = r.prefix(field+".cidr", s.CIDR)
	out.ForwardedCIDR = r.prefix(field+".forwardedCIDR", s.ForwardedCIDR)
	if s.JWT != nil {
		r.jwt(field + ".jwt")
		return out, false
	}
	return out, true
}

// jwt: no RequestAuthentication is carried out, so no request has a proven
// token. In an Allow such a source never matches; in a Deny it would never
// refuse, so that the object must not look as if it were in force.
func (r *authzReader) jwt(field string) {
	const message = "this version of meshd does not check JWTs: "
	if r.deny {
		r.findings = append(r.findings, object.Refused(r.origin, report.Unsupported, field, message+"a Deny must do without"))
		return
	}
	r.findings = append(r.findings, object.Unresolved(r.origin, report.Unsupported, field, message+"this source never matches"))
}

// serviceAccount gives the path of its SPIFFE ID.
func (r *authzReader) serviceAccount(field string, s meshv1a1.ServiceAccountSource) string {
	if s == (meshv1a1.ServiceAccountSource{}) {
		r.refuse(field, "an empty entry names no one: give a name, or a namespace to mean all of it")
		return ""
	}
	namespace, name := s.Namespace, s.Name
	if namespace == "" {
		namespace = r.origin.Namespace
	}
	if name == "" {
		name = "any" // only to check the namespace
	}
	if _, err := identity.New(r.trustDomain, namespace, name); err != nil {
		r.refuse(field, "%v", err)
		return ""
	}
	if s.Name == "" {
		return "/ns/" + namespace + "/sa/"
	}
	return "/ns/" + namespace + "/sa/" + name
}

// spiffe gives the path of a SPIFFE ID or of a prefix that ends in /*.
func (r *authzReader) spiffe(field, text string) string {
	id, prefix := strings.CutSuffix(text, "/*")
	parsed, err := spiffeid.FromString(id)
	if err != nil {
		r.refuse(field, "%q is no SPIFFE ID, nor one that ends in /*: %v", text, err)
		return ""
	}
	td := parsed.TrustDomain().Name()
	if td != r.trustDomain && !slices.Contains(r.aliases, td) {
		r.refuse(field, "%s is not the mesh's trust domain %s, nor one of its aliases: no peer can have this ID", td, r.trustDomain)
		return ""
	}
	if prefix {
		return parsed.Path() + "/"
	}
	if parsed.Path() == "" {
		r.refuse(field, "%q names no workload: end it in /* to mean the whole trust domain", text)
		return ""
	}
	return parsed.Path()
}

// both is the path that two paths have in common; "" is any.
func both(a, b string) (string, bool) {
	switch {
	case a == "" || a == b:
		return b, true
	case b == "":
		return a, true
	case strings.HasSuffix(a, "/") && strings.HasPrefix(b, a):
		return b, true
	case strings.HasSuffix(b, "/") && strings.HasPrefix(a, b):
		return a, true
	}
	return "", false
}

// identify writes a path out in the trust domain and all its aliases.
func (r *authzReader) identify(out *model.AuthzSource, path string) {
	if path == "" {
		return
	}
	var ids []string
	for _, td := range append([]string{r.trustDomain}, r.aliases...) {
		ids = append(ids, "spiffe://"+td+path)
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	if strings.HasSuffix(path, "/") {
		out.IdentityPrefixes = ids
		return
	}
	out.Identities = ids
}

func (r *authzReader) prefix(field, text string) netip.Prefix {
	if text == "" {
		return netip.Prefix{}
	}
	p, err := object.Prefix(text)
	if err != nil {
		r.refuse(field, "%v", err)
	}
	return p
}
