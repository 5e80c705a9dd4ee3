package gatewayapi

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// token is what names of headers and methods are made of (RFC 9110). An API
// server holds objects to it, by the definitions that it has.
var token = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")

// matches reads a rule's; without any it is for every request.
func (r *reader) matches(field string, in []gwv1.HTTPRouteMatch) []match {
	if len(in) == 0 {
		return []match{{RouteMatch: model.RouteMatch{Path: "/"}}}
	}
	var out []match
	for i, m := range in {
		at := fmt.Sprintf("%s.matches[%d]", field, i)
		one := match{index: i}
		one.PathMatch, one.Path = r.path(at+".path", m.Path)
		if one.Method = string(valueOr(m.Method, "")); one.Method != "" && !token.MatchString(one.Method) {
			r.fault(report.UnsupportedValue, at+".method", "%q is no method", one.Method)
		}
		for j, h := range m.Headers {
			one.Headers = r.value(fmt.Sprintf("%s.headers[%d]", at, j), one.Headers,
				model.ValueMatch{Name: strings.ToLower(string(h.Name)), Value: h.Value}, string(valueOr(h.Type, gwv1.HeaderMatchExact)))
		}
		for j, q := range m.QueryParams {
			one.Query = r.value(fmt.Sprintf("%s.queryParams[%d]", at, j), one.Query,
				model.ValueMatch{Name: string(q.Name), Value: q.Value}, string(valueOr(q.Type, gwv1.QueryParamMatchExact)))
		}
		out = append(out, one)
	}
	return out
}

func (r *reader) path(field string, in *gwv1.HTTPPathMatch) (model.PathMatch, string) {
	if in == nil {
		return model.PathPrefix, "/"
	}
	path := valueOr(in.Value, "/")
	kind := model.PathPrefix
	switch t := valueOr(in.Type, gwv1.PathMatchPathPrefix); t {
	case gwv1.PathMatchPathPrefix:
		for len(path) > 1 && strings.HasSuffix(path, "/") {
			path = strings.TrimSuffix(path, "/")
		}
	case gwv1.PathMatchExact:
		kind = model.PathExact
	case gwv1.PathMatchRegularExpression:
		r.regex(field+".value", path)
		return model.PathRegex, path
	default:
		r.fault(report.UnsupportedValue, field+".type", "%q is no kind of match: use Exact, PathPrefix or RegularExpression", t)
	}
	if !strings.HasPrefix(path, "/") || strings.ContainsAny(path, "?#") {
		r.fault(report.UnsupportedValue, field+".value", "%q is no path: it begins with / and has neither ? nor #", path)
	}
	return kind, path
}

// value adds a match; of several with one name the first counts, as the API wants it.
func (r *reader) value(field string, list []model.ValueMatch, m model.ValueMatch, kind string) []model.ValueMatch {
	if slices.ContainsFunc(list, func(o model.ValueMatch) bool { return o.Name == m.Name }) {
		return list
	}
	if !token.MatchString(m.Name) {
		r.fault(report.UnsupportedValue, field+".name", "%q is no name", m.Name)
	}
	switch kind {
	case string(gwv1.HeaderMatchExact):
	case string(gwv1.HeaderMatchRegularExpression):
		m.Regex = true
		r.regex(field+".value", m.Value)
	default:
		r.fault(report.UnsupportedValue, field+".type", "%q is no kind of match: use Exact or RegularExpression", kind)
	}
	return append(list, m)
}

// regex holds an expression to RE2, which is Go's and Envoy's.
func (r *reader) regex(field, expression string) {
	if expression == "" {
		r.fault(report.UnsupportedValue, field, "an empty expression matches nothing: leave the match out")
	} else if _, err := regexp.Compile(expression); err != nil {
		r.fault(report.UnsupportedValue, field, "%q is no regular expression of RE2: %v", expression, err)
	}
}
