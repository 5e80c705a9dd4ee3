package policy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/model"
)

// token is RFC 9110's token: a method or the name of a header.
var token = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

// grpcName is a protobuf name with its package.
var grpcName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$`)

// grpcMethod is a protobuf name.
var grpcMethod = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// to reads what a rule is about.
func (r *authzReader) to(field string, t meshv1a1.AuthorizationTo) model.AuthzTo {
	if t.Ports == nil && t.Methods == nil && t.Paths == nil && t.Headers == nil && t.GRPC == nil {
		r.refuse(field, "an empty entry names nothing: leave `to` out to mean anything")
	}
	r.notEmpty(field+".ports", t.Ports != nil, len(t.Ports))
	r.notEmpty(field+".methods", t.Methods != nil, len(t.Methods))
	r.notEmpty(field+".paths", t.Paths != nil, len(t.Paths))
	r.notEmpty(field+".headers", t.Headers != nil, len(t.Headers))
	r.notEmpty(field+".grpc", t.GRPC != nil, len(t.GRPC))
	var out model.AuthzTo
	for i, n := range t.Ports {
		port, ok := portNumber(n)
		if !ok {
			r.refuse(fmt.Sprintf("%s.ports[%d]", field, i), "%d is not a port number", n)
		}
		out.Ports = append(out.Ports, port)
	}
	for i, m := range t.Methods {
		if !token.MatchString(m) {
			r.refuse(fmt.Sprintf("%s.methods[%d]", field, i), "%q is not a method such as GET", m)
		}
		out.Methods = append(out.Methods, m)
	}
	for i, text := range t.Paths {
		p, err := pathPattern(text)
		if err != nil {
			r.refuse(fmt.Sprintf("%s.paths[%d]", field, i), "%v", err)
		}
		out.Paths = append(out.Paths, p)
	}
	slices.Sort(out.Ports)
	slices.Sort(out.Methods)
	out.Headers = r.headers(field+".headers", t.Headers)
	out.GRPC = r.grpc(field+".grpc", t.GRPC)
	return out
}

func (r *authzReader) notEmpty(field string, written bool, length int) {
	if written && length == 0 {
		r.refuse(field, "an empty list names nothing: leave the field out to mean anything")
	}
}

func (r *authzReader) headers(field string, headers []meshv1a1.HeaderValues) []model.HeaderMatch {
	var out []model.HeaderMatch
	for i, h := range headers {
		at := fmt.Sprintf("%s[%d]", field, i)
		if !token.MatchString(h.Name) {
			r.refuse(at+".name", "%q is not the name of a header", h.Name)
		}
		if len(h.Values) == 0 {
			r.refuse(at+".values", "name at least one value")
		}
		out = append(out, model.HeaderMatch{Name: strings.ToLower(h.Name), Values: slices.Sorted(slices.Values(h.Values))})
	}
	return out
}

func (r *authzReader) grpc(field string, matches []meshv1a1.GRPCMatch) []model.GRPCMatch {
	var out []model.GRPCMatch
	for i, g := range matches {
		at := fmt.Sprintf("%s[%d]", field, i)
		if !grpcName.MatchString(g.Service) {
			r.refuse(at+".service", "%q is not a gRPC service such as shop.Loans", g.Service)
		}
		r.notEmpty(at+".methods", g.Methods != nil, len(g.Methods))
		for j, m := range g.Methods {
			if !grpcMethod.MatchString(m) {
				r.refuse(fmt.Sprintf("%s.methods[%d]", at, j), "%q is not a gRPC method such as Get", m)
			}
		}
		out = append(out, model.GRPCMatch{Service: g.Service, Methods: slices.Sorted(slices.Values(g.Methods))})
	}
	return out
}

// literal is a segment as a normalised path has it: RFC 3986's pchar, with
// escapes only for what must be escaped.
var literal = regexp.MustCompile(`^([A-Za-z0-9._~!$&'()+,;=:@-]|%[0-9A-Fa-f]{2})+$`)

// variable is {name}.
var variable = regexp.MustCompile(`^\{[A-Za-z_][A-Za-z0-9_-]*\}$`)

// pathPattern reads /x (exact), /x/* (by whole segments) and {name} (one segment).
func pathPattern(text string) (model.PathPattern, error) {
	rest, ok := strings.CutPrefix(text, "/")
	if !ok {
		return model.PathPattern{}, fmt.Errorf("%q does not begin with /", text)
	}
	var out model.PathPattern
	if rest == "" {
		return out, nil
	}
	segments := strings.Split(rest, "/")
	for i, s := range segments {
		last := i == len(segments)-1
		switch {
		case s == "*" && last:
			out.Prefix = true
		case s == "" && last:
			out.Segments = append(out.Segments, "") // "/x/" is another path than "/x"
		case variable.MatchString(s):
			out.Segments = append(out.Segments, "{}")
		default:
			if err := checkLiteral(text, s); err != nil {
				return model.PathPattern{}, err
			}
			out.Segments = append(out.Segments, s)
		}
	}
	return out, nil
}

// checkLiteral refuses segments that no normalised path has: they would never
// match, which in a Deny is a hole.
func checkLiteral(text, s string) error {
	switch {
	case s == "":
		return fmt.Errorf("%q has an empty segment, which no normalised path has", text)
	case s == "." || s == "..":
		return fmt.Errorf("%q has the segment %q, which no normalised path has", text, s)
	case strings.ContainsAny(s, "*{}"):
		return fmt.Errorf("%q: * stands only for the whole end, as in /x/*, and {name} only for one whole segment", text)
	case !literal.MatchString(s):
		return fmt.Errorf("%q: segment %q is not one of a normalised path: escape it as %%XX, and leave the query out", text, s)
	}
	for at := strings.IndexByte(s, '%'); at >= 0; {
		escaped := strings.ToLower(s[at+1 : at+3])
		var b byte
		if _, err := fmt.Sscanf(escaped, "%02x", &b); err != nil {
			return fmt.Errorf("%q: %%%s is no escape", text, escaped)
		}
		if escaped == "2f" || escaped == "5c" {
			return fmt.Errorf("%q: requests with %%%s are answered 400 where a path rule applies, so that this never matches", text, escaped)
		}
		if isUnreserved(b) {
			return fmt.Errorf("%q: write %q instead of %%%s, as normalised paths do", text, string(b), escaped)
		}
		next := strings.IndexByte(s[at+3:], '%')
		if next < 0 {
			break
		}
		at += 3 + next
	}
	return nil
}

// isUnreserved: RFC 3986 section 2.3.
func isUnreserved(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || strings.IndexByte("-._~", b) >= 0
}
