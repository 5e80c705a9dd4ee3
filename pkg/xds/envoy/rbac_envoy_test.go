package envoy_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/meshd-io/meshd/internal/envoytest"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

// request is "METHOD PATH", then lines of headers.
type request string

// verdicts are the status codes that a real Envoy must answer. 200 is the
// application's, everything else was decided before it.
type verdicts map[request]int

// TestRealEnvoyObeysRules sends requests through the filters that policies are
// translated to, as a plaintext peer would.
func TestRealEnvoyObeysRules(t *testing.T) {
	cases := map[string]struct {
		authz model.Authz
		want  verdicts
	}{
		"none":          {model.Authz{}, verdicts{"GET /": 200}},
		"default-deny":  {model.Authz{DefaultDeny: true}, verdicts{"GET /": 403}},
		"allow-nothing": {model.Authz{Allow: policy("p")}, verdicts{"GET /": 403}},
		"broken-deny":   {model.Authz{Deny: policy("p")}, verdicts{"GET /": 403}},
		"identity":      {model.Authz{Allow: policy("p", from(model.AuthzSource{Identities: []string{loansID}}))}, verdicts{"GET /": 403}},
		"audit": {model.Authz{
			AuditAllow: policy("p"), AuditDeny: policy("q", model.AuthzRule{}),
		}, verdicts{"GET /": 200}},
		"deny-before-allow": {model.Authz{
			Allow: policy("p", model.AuthzRule{}), Deny: policy("q", into(model.AuthzTo{Methods: []string{"DELETE"}})),
		}, verdicts{"GET /": 200, "DELETE /": 403}},
		"deny-path": {model.Authz{Deny: policy("q", into(to("admin", true)))}, verdicts{
			"GET /user": 200, "GET /admin": 403, "GET /admin/x": 403, "GET /admins": 200, "GET //admin": 403, "GET /x/../admin": 403,
			"GET /%61dmin": 403, "GET /x/%2e%2e/admin": 403, "GET /x%2fadmin": 400, "GET /x%5cadmin": 400, "GET /ADMIN": 200, "GET /admin?x=/y": 403,
		}},
		"paths": {model.Authz{Allow: policy("p", into(model.AuthzTo{Paths: []model.PathPattern{
			{Segments: []string{"loans"}}, {Segments: []string{"users", "{}", "loans"}}, {Segments: []string{"a.b", "{}"}, Prefix: true},
		}}))}, verdicts{
			"GET /loans": 200, "GET /loans?x=1": 200, "GET /loans/": 403, "GET /loans/1": 403, "GET /users/7/loans": 200,
			"GET /users//loans": 403, "GET /users/7/8/loans": 403, "GET /a.b/c": 200, "GET /a.b/c/d": 200, "GET /a.b": 403, "GET /axb/c": 403,
		}},
		"header": {model.Authz{Allow: policy("p", into(model.AuthzTo{Headers: []model.HeaderMatch{
			{Name: "x-tier", Values: []string{"gold", "a+b"}}, {Name: "x-region", Values: []string{"eu"}},
		}}))}, verdicts{
			"GET /\nx-tier: gold\nx-region: eu": 200, "GET /\nx-tier: a+b\nx-region: eu": 200, "GET /\nx-tier: aab\nx-region: eu": 403,
			"GET /\nx-tier: silver\nx-tier: gold\nx-region: eu": 200, "GET /\nx-tier: Gold\nx-region: eu": 403, "GET /\nx-tier: gold": 403, "GET /": 403,
		}},
		"header-long": {model.Authz{Allow: policy("p", into(model.AuthzTo{Headers: []model.HeaderMatch{
			{Name: "x-tier", Values: []string{strings.Repeat("gold", 100)}},
		}}))}, verdicts{request("GET /\nx-tier: " + strings.Repeat("gold", 100)): 200, "GET /\nx-tier: gold": 403}},
		"grpc": {model.Authz{Allow: policy("p", into(model.AuthzTo{GRPC: []model.GRPCMatch{
			{Service: "shop.Loans", Methods: []string{"Get"}}, {Service: "shop.Cards"},
		}}))}, verdicts{
			// A gRPC caller is told in its own way: 200 and grpc-status.
			"POST /shop.Loans/Get\ncontent-type: application/grpc+proto": 200, "POST /shop.Loans/Get\ncontent-type: text/plain": 403,
			"GET /shop.Loans/Get\ncontent-type: text/plain": 403, "POST /shop.Cards/Any\ncontent-type: application/grpc": 200,
		}},
		"token": {model.Authz{
			Allow: policy("p", from(model.AuthzSource{JWT: &model.JWTSource{Issuer: "i"}})),
		}, verdicts{"GET /": 403}},
	}
	dir := t.TempDir()
	var listeners []*listenerv3.Listener
	for name, c := range cases {
		listeners = append(listeners, plainListener(t, filepath.Join(dir, name), c.authz))
	}
	start(t, dir, listeners)
	for name, c := range cases {
		client := envoytest.UnixClient(filepath.Join(dir, name))
		for r, want := range c.want {
			if got := send(t, client, r); got.StatusCode != want {
				t.Errorf("%s: %q is answered %d, want %d (%s)", name, r, got.StatusCode, want, got.Header.Get("x-meshd-denied-by"))
			}
		}
		client.CloseIdleConnections()
	}
}

// TestDenialNamesThePolicy: in a header and in the body.
func TestDenialNamesThePolicy(t *testing.T) {
	wants := map[string]model.Authz{
		"shop/callers":           {Allow: policy("callers")},
		"shop/no-admin":          {Deny: policy("no-admin"), Allow: policy("callers")},
		"shop/callers,shop/more": {Allow: append(policy("callers"), policy("more")...)},
		"MeshConfig/default":     {DefaultDeny: true},
	}
	dir := t.TempDir()
	var listeners []*listenerv3.Listener
	socket := func(want string) string {
		return filepath.Join(dir, strings.NewReplacer("/", "-", ",", "-").Replace(want))
	}
	for want, a := range wants {
		listeners = append(listeners, plainListener(t, socket(want), a))
	}
	start(t, dir, listeners)
	for want := range wants {
		client := envoytest.UnixClient(socket(want))
		got := send(t, client, "GET /")
		if named := "[" + want + "]"; !strings.HasSuffix(got.Header.Get("x-meshd-denied-by"), named) {
			t.Errorf("%s: the header is %q", want, got.Header.Get("x-meshd-denied-by"))
		}
		client.CloseIdleConnections()
	}
}

func to(segment string, prefix bool) model.AuthzTo {
	return model.AuthzTo{Paths: []model.PathPattern{{Segments: []string{segment}, Prefix: prefix}}}
}

func send(t *testing.T, client *http.Client, r request) *http.Response {
	t.Helper()
	lines := strings.Split(string(r), "\n")
	method, path, _ := strings.Cut(lines[0], " ")
	req, err := http.NewRequestWithContext(t.Context(), method, "http://app/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.URL = &url.URL{Scheme: "http", Host: "app", Opaque: path} // sent as it is written
	if strings.HasPrefix(path, "//") {
		req.URL = &url.URL{Scheme: "http", Host: "app", Path: path} // Opaque would name another host
	}
	for _, l := range lines[1:] {
		k, v, _ := strings.Cut(l, ": ")
		req.Header.Add(k, v)
	}
	answer, err := client.Do(req)
	if err != nil {
		t.Fatalf("%q: %v", r, err)
	}
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		t.Fatalf("%q: %v", r, err)
	}
	_ = answer.Body.Close()
	return answer
}

// plainListener is the plaintext chain of a port with policies, on a socket,
// with what comes by ECDS written in, and an application that answers 200.
func plainListener(t *testing.T, socket string, a model.Authz) *listenerv3.Listener {
	t.Helper()
	c := ports(model.InboundPort{Port: 8080, Protocol: model.HTTP, Mode: model.Disable, Authz: a})
	rs, _ := envoy.Translate(c.view())
	in, ok := find(rs[envoy.ListenerType], "in").Proto.(*listenerv3.Listener)
	if !ok {
		t.Fatal("in is no listener")
	}
	chain := proto.CloneOf(in.GetFilterChains()[0])
	chain.FilterChainMatch = nil
	hcm := &hcmv3.HttpConnectionManager{}
	if err := chain.Filters[0].GetTypedConfig().UnmarshalTo(hcm); err != nil {
		t.Fatal(err)
	}
	for _, f := range hcm.HttpFilters {
		if f.GetConfigDiscovery() == nil {
			continue
		}
		e, ok := find(rs[envoy.ExtensionType], f.GetName()).Proto.(*corev3.TypedExtensionConfig)
		if !ok {
			t.Fatalf("%s has no configuration", f.GetName())
		}
		f.ConfigType = &hcmv3.HttpFilter_TypedConfig{TypedConfig: e.GetTypedConfig()}
	}
	route := hcm.GetRouteConfig().GetVirtualHosts()[0].GetRoutes()[0]
	route.Action = &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: 200}}
	hcm.AccessLog, hcm.StatPrefix = nil, "in"
	packed, err := anypb.New(hcm)
	if err != nil {
		t.Fatal(err)
	}
	chain.Filters[0].ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: packed}
	return &listenerv3.Listener{
		Name: socket, Address: pipeAddress(socket), FilterChains: []*listenerv3.FilterChain{chain},
	}
}

func pipeAddress(path string) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: path}}}
}

func start(t *testing.T, dir string, listeners []*listenerv3.Listener) {
	t.Helper()
	admin := filepath.Join(dir, "admin.sock")
	text, err := protojson.Marshal(&bootstrapv3.Bootstrap{
		Node:           &corev3.Node{Id: "sidecar~test/test", Cluster: "test/test"},
		Admin:          &bootstrapv3.Admin{Address: pipeAddress(admin)},
		LayeredRuntime: envoy.Runtime(),
		StaticResources: &bootstrapv3.Bootstrap_StaticResources{
			Listeners: listeners, Clusters: []*clusterv3.Cluster{{Name: "in-local", AltStatName: "x"}, {Name: "meshd"}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := json.Indent(&b, text, "", " "); err != nil {
		t.Fatal(err)
	}
	envoytest.Start(t, b.Bytes(), admin)
}
