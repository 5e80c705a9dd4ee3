package envoy

import (
	"strings"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/meshd-io/meshd/pkg/model"
)

// to are the permissions that any of them names; empty matches nothing.
func (g guard) to(list []model.AuthzTo) []*rbacv3.Permission {
	if len(list) == 0 {
		return []*rbacv3.Permission{anything()}
	}
	var out []*rbacv3.Permission
	for _, to := range list {
		if p := g.oneTo(to); p != nil {
			out = append(out, p)
		}
	}
	return out
}

// oneTo is one whole entry: all its fields must match. nil matches nothing: on
// TCP nobody can see what an Allow wants of a request, and a Deny takes it as seen.
func (g guard) oneTo(to model.AuthzTo) *rbacv3.Permission {
	var all []*rbacv3.Permission
	if len(to.Ports) > 0 {
		var ports []*rbacv3.Permission
		for _, p := range to.Ports {
			ports = append(ports, &rbacv3.Permission{Rule: &rbacv3.Permission_DestinationPort{DestinationPort: uint32(p)}})
		}
		all = append(all, anyOf(ports))
	}
	switch {
	case g.http:
		all = append(all, requestRules(to)...)
	case to.NeedsHTTP() && !g.denies:
		return nil
	}
	if len(all) == 0 {
		return anything()
	}
	return allOf(all)
}

func requestRules(to model.AuthzTo) []*rbacv3.Permission {
	var all []*rbacv3.Permission
	if len(to.Methods) > 0 {
		var methods []*rbacv3.Permission
		for _, m := range to.Methods {
			methods = append(methods, header(":method", exactly(m)))
		}
		all = append(all, anyOf(methods))
	}
	if len(to.Paths) > 0 {
		var paths []*rbacv3.Permission
		for _, p := range to.Paths {
			paths = append(paths, pathRules(p)...)
		}
		all = append(all, anyOf(paths))
	}
	for _, h := range to.Headers {
		var values []*rbacv3.Permission
		for _, v := range h.Values {
			values = append(values, header(h.Name, anyValue(v)))
		}
		all = append(all, anyOf(values))
	}
	if len(to.GRPC) > 0 {
		var calls []*rbacv3.Permission
		for _, c := range to.GRPC {
			calls = append(calls, grpcRules(c)...)
		}
		all = append(all, header(":method", exactly("POST")), header("content-type", startingWith("application/grpc")), anyOf(calls))
	}
	return all
}

// anyValue matches one of the values of a header that may be there several
// times: Envoy joins them by commas before it compares.
func anyValue(v string) *matcherv3.StringMatcher {
	return fully("(?:.*,)?" + quoted(v) + "(?:,.*)?")
}

// pathRules match a pattern by whole segments. Envoy leaves the query out.
func pathRules(p model.PathPattern) []*rbacv3.Permission {
	plain := "/" + strings.Join(p.Segments, "/")
	for _, s := range p.Segments {
		if s == "{}" {
			return []*rbacv3.Permission{urlPath(fully(templateRegex(p)))}
		}
	}
	switch {
	case !p.Prefix:
		return []*rbacv3.Permission{urlPath(exactly(plain))}
	case len(p.Segments) == 0:
		return []*rbacv3.Permission{urlPath(startingWith("/"))}
	}
	return []*rbacv3.Permission{urlPath(exactly(plain)), urlPath(startingWith(plain + "/"))}
}

func templateRegex(p model.PathPattern) string {
	var b strings.Builder
	for _, s := range p.Segments {
		b.WriteString("/")
		if s == "{}" {
			b.WriteString("[^/]+")
		} else {
			b.WriteString(quoted(s))
		}
	}
	if p.Prefix {
		b.WriteString("(?:/.*)?")
	}
	return b.String()
}

func grpcRules(c model.GRPCMatch) []*rbacv3.Permission {
	service := "/" + c.Service + "/"
	if len(c.Methods) == 0 {
		return []*rbacv3.Permission{urlPath(startingWith(service))}
	}
	var out []*rbacv3.Permission
	for _, m := range c.Methods {
		out = append(out, urlPath(exactly(service+m)))
	}
	return out
}

func urlPath(m *matcherv3.StringMatcher) *rbacv3.Permission {
	return &rbacv3.Permission{Rule: &rbacv3.Permission_UrlPath{
		UrlPath: &matcherv3.PathMatcher{Rule: &matcherv3.PathMatcher_Path{Path: m}},
	}}
}

func header(name string, m *matcherv3.StringMatcher) *rbacv3.Permission {
	return &rbacv3.Permission{Rule: &rbacv3.Permission_Header{Header: &routev3.HeaderMatcher{
		Name: name, HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: m},
	}}}
}

func anything() *rbacv3.Permission {
	return &rbacv3.Permission{Rule: &rbacv3.Permission_Any{Any: true}}
}

func anyOf(list []*rbacv3.Permission) *rbacv3.Permission {
	if len(list) == 1 {
		return list[0]
	}
	return &rbacv3.Permission{Rule: &rbacv3.Permission_OrRules{OrRules: &rbacv3.Permission_Set{Rules: list}}}
}

func allOf(list []*rbacv3.Permission) *rbacv3.Permission {
	if len(list) == 1 {
		return list[0]
	}
	return &rbacv3.Permission{Rule: &rbacv3.Permission_AndRules{AndRules: &rbacv3.Permission_Set{Rules: list}}}
}
