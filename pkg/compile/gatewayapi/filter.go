package gatewayapi

import (
	"fmt"
	"slices"
	"strings"

	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/meshd-io/meshd/pkg/compile/object"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// filters are a rule's, or a backend's.
type filters struct {
	headers  model.HeaderChanges
	redirect *model.Redirect
	rewrite  model.Rewrite
	mirrors  []mirror
}

// mirror is one whose backend has not been looked up.
type mirror struct {
	reference
	numerator, denominator uint32
}

// filters reads a rule's; ok is false where one of them cannot be carried out.
func (r *reader) filters(field string, in []gwv1.HTTPRouteFilter, matches []match) (out filters, ok bool) {
	before := len(r.faults)
	for i := range in {
		f, at := &in[i], fmt.Sprintf("%s.filters[%d]", field, i)
		switch {
		case f.Type == gwv1.HTTPRouteFilterRequestRedirect && f.RequestRedirect != nil:
			out.redirect = r.redirect(at+".requestRedirect", f.RequestRedirect, matches)
		case f.Type == gwv1.HTTPRouteFilterURLRewrite && f.URLRewrite != nil:
			out.rewrite = model.Rewrite{
				Host: r.host(at+".urlRewrite.hostname", f.URLRewrite.Hostname),
				Path: r.pathChange(at+".urlRewrite.path", f.URLRewrite.Path, matches),
			}
		case f.Type == gwv1.HTTPRouteFilterRequestMirror && f.RequestMirror != nil:
			out.mirrors = append(out.mirrors, r.mirror(at+".requestMirror", f.RequestMirror))
		default:
			r.headerFilter(at, f, &out.headers)
		}
	}
	if out.redirect != nil && out.rewrite != (model.Rewrite{}) {
		r.fault(report.IncompatibleFilters, field+".filters", "RequestRedirect answers, so that there is nothing to rewrite: remove it or URLRewrite; requests of the rule get %d", failure)
	}
	return out, len(r.faults) == before
}

// headerFilter reads what changes headers; nothing else is allowed at a backend.
func (r *reader) headerFilter(field string, f *gwv1.HTTPRouteFilter, out *model.HeaderChanges) {
	switch {
	case f.Type == gwv1.HTTPRouteFilterRequestHeaderModifier && f.RequestHeaderModifier != nil:
		out.Request = r.headers(field+".requestHeaderModifier", f.RequestHeaderModifier)
	case f.Type == gwv1.HTTPRouteFilterResponseHeaderModifier && f.ResponseHeaderModifier != nil:
		out.Response = r.headers(field+".responseHeaderModifier", f.ResponseHeaderModifier)
	default:
		r.fault(report.UnsupportedValue, field+".type", "this version of meshd does not carry out a filter of type %s here: remove it; what it would be applied to gets %d", f.Type, failure)
	}
}

func (r *reader) headers(field string, in *gwv1.HTTPHeaderFilter) model.HeaderChange {
	name := func(where string, i int, name string) string {
		out := strings.ToLower(name)
		if out == "host" || !token.MatchString(out) {
			r.fault(report.UnsupportedValue, fmt.Sprintf("%s.%s[%d]", field, where, i), "%q is no header that can be changed (a filter of type URLRewrite changes the host name); what the filter would be applied to gets %d", name, failure)
		}
		return out
	}
	list := func(where string, in []gwv1.HTTPHeader) []model.Header {
		var out []model.Header
		for i, h := range in {
			if strings.ContainsAny(h.Value, "\r\n\x00") {
				r.fault(report.UnsupportedValue, fmt.Sprintf("%s.%s[%d].value", field, where, i), "a header's value is one line; what the filter would be applied to gets %d", failure)
			}
			out = append(out, model.Header{Name: name(where, i, string(h.Name)), Value: h.Value})
		}
		return out
	}
	out := model.HeaderChange{Set: list("set", in.Set), Add: list("add", in.Add)}
	for i, h := range in.Remove {
		out.Remove = append(out.Remove, name("remove", i, h))
	}
	return out
}

func (r *reader) redirect(field string, in *gwv1.HTTPRequestRedirectFilter, matches []match) *model.Redirect {
	out := &model.Redirect{
		Scheme: valueOr(in.Scheme, ""),
		Host:   r.host(field+".hostname", in.Hostname),
		Port:   uint16(valueOr(in.Port, 0)),
		Path:   r.pathChange(field+".path", in.Path, matches),
		Status: uint32(valueOr(in.StatusCode, 302)),
	}
	if !slices.Contains([]string{"", "http", "https"}, out.Scheme) {
		r.fault(report.UnsupportedValue, field+".scheme", "%q is neither http nor https; requests of the rule get %d", out.Scheme, failure)
	}
	if !slices.Contains([]uint32{301, 302, 303, 307, 308}, out.Status) {
		r.fault(report.UnsupportedValue, field+".statusCode", "%d is none of 301, 302, 303, 307 and 308; requests of the rule get %d", out.Status, failure)
	}
	return out
}

// host reads the name that a request or an answer is given; "" where that is left out.
func (r *reader) host(field string, in *gwv1.PreciseHostname) string {
	if in == nil {
		return ""
	}
	out, err := object.Host(string(*in))
	if err != nil || strings.HasPrefix(out, "*") {
		r.fault(report.UnsupportedValue, field, "%q is not a name such as example.com; requests of the rule get %d", *in, failure)
	}
	return out
}

func (r *reader) pathChange(field string, in *gwv1.HTTPPathModifier, matches []match) model.PathChange {
	if in == nil {
		return model.PathChange{}
	}
	switch in.Type {
	case gwv1.FullPathHTTPPathModifier:
		return model.PathChange{Kind: model.ReplacePath, Value: r.newPath(field+".replaceFullPath", in.ReplaceFullPath)}
	case gwv1.PrefixMatchHTTPPathModifier:
		if slices.ContainsFunc(matches, func(m match) bool { return m.PathMatch != model.PathPrefix }) {
			r.fault(report.UnsupportedValue, field+".type", "%s needs matches of type PathPrefix only; requests of the rule get %d", in.Type, failure)
		}
		return model.PathChange{Kind: model.ReplacePrefix, Value: strings.TrimRight(r.newPath(field+".replacePrefixMatch", in.ReplacePrefixMatch), "/")}
	}
	r.fault(report.UnsupportedValue, field+".type", "%q is neither ReplaceFullPath nor ReplacePrefixMatch; requests of the rule get %d", in.Type, failure)
	return model.PathChange{}
}

// newPath reads what a path is replaced by; it begins with /, written or not.
func (r *reader) newPath(field string, in *string) string {
	path := valueOr(in, "/")
	if strings.ContainsFunc(path, func(c rune) bool { return c <= ' ' || c == 0x7f }) {
		r.fault(report.UnsupportedValue, field, "%q is no path; requests of the rule get %d", path, failure)
	}
	return "/" + strings.TrimPrefix(path, "/")
}

func (r *reader) mirror(field string, in *gwv1.HTTPRequestMirrorFilter) mirror {
	out := mirror{reference: referenceOf(r.origin, field+".backendRef", in.BackendRef), numerator: 100, denominator: 100}
	switch {
	case in.Percent != nil:
		out.numerator = uint32(max(0, *in.Percent))
	case in.Fraction != nil:
		out.numerator, out.denominator = uint32(max(0, in.Fraction.Numerator)), uint32(max(0, valueOr(in.Fraction.Denominator, 100)))
	}
	return out
}
