package envoy

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/meshd-io/meshd/pkg/model"
)

// million is the denominator of every share.
const million = 1_000_000

// routeMatch is for the requests that all of a match is for.
func routeMatch(m model.RouteMatch) *routev3.RouteMatch {
	out := pathMatch(m)
	if m.Method != "" {
		out.Headers = append(out.Headers, headerMatch(":method", exactly(m.Method)))
	}
	for _, h := range m.Headers {
		name := h.Name
		if name == "host" {
			name = ":authority"
		}
		out.Headers = append(out.Headers, headerMatch(name, valueMatch(h)))
	}
	for _, q := range m.Query {
		out.QueryParameters = append(out.QueryParameters, &routev3.QueryParameterMatcher{
			Name:                         q.Name,
			QueryParameterMatchSpecifier: &routev3.QueryParameterMatcher_StringMatch{StringMatch: valueMatch(q)},
		})
	}
	return out
}

func pathMatch(m model.RouteMatch) *routev3.RouteMatch {
	switch {
	case m.PathMatch == model.PathExact:
		return exactPath(m.Path)
	case m.PathMatch == model.PathRegex:
		return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: m.Path}}}
	case trimmed(m.Path) == "":
		return prefixSlash()
	}
	return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_PathSeparatedPrefix{PathSeparatedPrefix: trimmed(m.Path)}}
}

func headerMatch(name string, value *matcherv3.StringMatcher) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{Name: name, HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: value}}
}

func valueMatch(m model.ValueMatch) *matcherv3.StringMatcher {
	if m.Regex {
		return fully(m.Value)
	}
	return exactly(m.Value)
}

// trimmed is a prefix as Envoy takes it: "/x/" and "/x" cover the same
// segments. "" is every path.
func trimmed(path string) string {
	for len(path) > 0 && path[len(path)-1] == '/' {
		path = path[:len(path)-1]
	}
	return path
}

// fraction is a share in millionths.
func fraction(share uint64) *corev3.RuntimeFractionalPercent {
	return &corev3.RuntimeFractionalPercent{DefaultValue: &typev3.FractionalPercent{
		Numerator: uint32(min(share, million)), Denominator: typev3.FractionalPercent_MILLION, // no more than a million
	}}
}
