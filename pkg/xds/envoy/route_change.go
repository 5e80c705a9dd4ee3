package envoy

import (
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/meshd-io/meshd/pkg/model"
)

// redirected answers each request with a place to ask instead.
func redirected(r model.Route) *routev3.Route {
	to := &routev3.RedirectAction{HostRedirect: r.Redirect.Host, PortRedirect: uint32(r.Redirect.Port)}
	switch r.Redirect.Status {
	case 302:
		to.ResponseCode = routev3.RedirectAction_FOUND
	case 303:
		to.ResponseCode = routev3.RedirectAction_SEE_OTHER
	case 307:
		to.ResponseCode = routev3.RedirectAction_TEMPORARY_REDIRECT
	case 308:
		to.ResponseCode = routev3.RedirectAction_PERMANENT_REDIRECT
	}
	if r.Redirect.Scheme != "" {
		to.SchemeRewriteSpecifier = &routev3.RedirectAction_SchemeRedirect{SchemeRedirect: r.Redirect.Scheme}
	}
	if prefix, regex := pathChange(r.Match.Path, r.Redirect.Path); regex != nil {
		to.PathRewriteSpecifier = &routev3.RedirectAction_RegexRewrite{RegexRewrite: regex}
	} else if prefix != "" {
		to.PathRewriteSpecifier = &routev3.RedirectAction_PrefixRewrite{PrefixRewrite: prefix}
	}
	out := &routev3.Route{Name: r.Name, Match: routeMatch(r.Match), Action: &routev3.Route_Redirect{Redirect: to}}
	out.ResponseHeadersToAdd, out.ResponseHeadersToRemove = headersOf(r.Headers.Response)
	return out
}

// refused answers each request with the status of what leads nowhere.
func refused(r model.Route, name string) *routev3.Route {
	return &routev3.Route{Name: name, Match: routeMatch(r.Match), Action: &routev3.Route_DirectResponse{
		DirectResponse: &routev3.DirectResponseAction{Status: r.Nowhere},
	}}
}

// rewrite changes what is sent to a backend.
func rewrite(action *routev3.RouteAction, r model.Route) {
	if r.Rewrite.Host != "" {
		action.HostRewriteSpecifier = &routev3.RouteAction_HostRewriteLiteral{HostRewriteLiteral: r.Rewrite.Host}
	}
	action.PrefixRewrite, action.RegexRewrite = pathChange(r.Match.Path, r.Rewrite.Path)
}

// pathChange is a prefix that replaces the one that has matched, or an
// expression where that would join the rest in the wrong way. The query stays.
func pathChange(matched string, c model.PathChange) (prefix string, regex *matcherv3.RegexMatchAndSubstitute) {
	matched = trimmed(matched)
	var from string
	to := c.Value
	switch {
	case c.Kind == model.KeepPath:
		return "", nil
	case c.Kind == model.ReplacePath:
		from = "^/.*$"
	case matched == "":
		from, to = "^/", trimmed(c.Value)+"/"
	case trimmed(c.Value) == "":
		from, to = "^"+quoted(matched)+"(?:/|$)", "/"
	default:
		return trimmed(c.Value), nil
	}
	return "", &matcherv3.RegexMatchAndSubstitute{
		Pattern:      &matcherv3.RegexMatcher{Regex: from},
		Substitution: strings.ReplaceAll(to, `\`, `\\`),
	}
}

// mirror sends copies of requests, under the name that the client has asked for.
func (t *translation) mirror(action *routev3.RouteAction, list []model.Mirror) {
	for _, m := range list {
		if t.backends[m.Ref] == nil || m.Numerator == 0 || m.Denominator == 0 {
			continue
		}
		policy := &routev3.RouteAction_RequestMirrorPolicy{Cluster: MirrorCluster(m.Ref), DisableShadowHostSuffixAppend: true}
		if m.Numerator < m.Denominator {
			policy.RuntimeFraction = fraction(uint64(m.Numerator) * million / uint64(m.Denominator))
		}
		action.RequestMirrorPolicies = append(action.RequestMirrorPolicies, policy)
	}
}

// headersOf is a change of headers; values are taken literally.
func headersOf(c model.HeaderChange) (add []*corev3.HeaderValueOption, remove []string) {
	list := func(headers []model.Header, how corev3.HeaderValueOption_HeaderAppendAction) {
		for _, h := range headers {
			add = append(add, &corev3.HeaderValueOption{
				Header:         &corev3.HeaderValue{Key: h.Name, Value: strings.ReplaceAll(h.Value, "%", "%%")},
				AppendAction:   how,
				KeepEmptyValue: true,
			})
		}
	}
	list(c.Set, corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD)
	list(c.Add, corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD)
	return add, c.Remove
}
