package envoytest_test

import (
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	httprbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/meshd-io/meshd/internal/envoytest"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

// TestLoadTellsWhatIsWrong: a validation that lets everything through would prove nothing.
func TestLoadTellsWhatIsWrong(t *testing.T) {
	for pattern, wanted := range map[string]string{"/loans/[^/]+": "", "(": "missing )"} {
		b, err := envoytest.Static(map[string]envoy.Resources{"case": {envoy.ExtensionType: {rbac(t, pattern)}}})
		if err != nil {
			t.Fatal(err)
		}
		err = envoytest.Load(t, b)
		if wanted == "" && err != nil || wanted != "" && (err == nil || !strings.Contains(err.Error(), wanted)) {
			t.Errorf("pattern %q: %v", pattern, err)
		}
	}
}

func rbac(t *testing.T, pattern string) envoy.Resource {
	t.Helper()
	path := &matcherv3.PathMatcher{Rule: &matcherv3.PathMatcher_Path{Path: &matcherv3.StringMatcher{
		MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: pattern}},
	}}}
	packed, err := anypb.New(&httprbacv3.RBAC{Rules: &rbacv3.RBAC{Policies: map[string]*rbacv3.Policy{"p": {
		Permissions: []*rbacv3.Permission{{Rule: &rbacv3.Permission_UrlPath{UrlPath: path}}},
		Principals:  []*rbacv3.Principal{{Identifier: &rbacv3.Principal_Any{Any: true}}},
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	return envoy.Resource{Name: "rbac", Proto: &corev3.TypedExtensionConfig{Name: "rbac", TypedConfig: packed}}
}
