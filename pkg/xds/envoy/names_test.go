package envoy_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

func TestNamesRoundTrip(t *testing.T) {
	v4, v6 := netip.MustParseAddrPort("10.96.0.10:80"), netip.MustParseAddrPort("[fd00::1]:80")
	loans := model.Name{Namespace: "shop", Name: "loans-svc"}
	for want, name := range map[string]envoy.ResourceName{
		"out|shop/loans-svc|8090":     {Kind: envoy.OutName, Backend: model.BackendRef{Service: loans, Port: 8090}},
		"out|shop/loans-svc|1|mirror": {Kind: envoy.OutName, Backend: model.BackendRef{Service: loans, Port: 1}, Part: "mirror"},
		"out|10.96.0.10:80":           {Kind: envoy.OutName, Backend: model.BackendRef{Address: v4}},
		"dst|10.96.0.10:80":           {Kind: envoy.GateName, Address: v4},
		"dst|[fd00::1]:80":            {Kind: envoy.GateName, Address: v6},
		"tcp|10.96.0.10:80":           {Kind: envoy.DetectedTCPName, Address: v4},
		"[fd00::1]:80":                {Kind: envoy.ScopeName, Address: v6},
		"in|8090|mtls-h2":             {Kind: envoy.InName, Port: 8090, Part: "mtls-h2"},
		"in|0|plain":                  {Kind: envoy.InName, Part: "plain"},
		"rbac|8090|http-deny":         {Kind: envoy.RBACName, Port: 8090, Part: "http-deny"},
		"cert|shop/tls":               {Kind: envoy.CertificateName, Object: model.Name{Namespace: "shop", Name: "tls"}},
		"trust|5432":                  {Kind: envoy.TrustName, Port: 5432},
		"gw|443":                      {Kind: envoy.GatewayName, Port: 443},
	} {
		if name.String() != want {
			t.Errorf("%+v is %q, want %q", name, name, want)
		}
		if back, err := envoy.ParseName(want); err != nil || back != name {
			t.Errorf("%q is %+v, want %+v (%v)", want, back, name, err)
		}
	}
}

func TestForeignNamesAreRefused(t *testing.T) {
	for _, s := range []string{
		"", "dst|", "dst|10.96.0.10", "dst|10.96.0.10:080", "dst|[::ffff:10.0.0.1]:x", "out|shop|1", "out|shop/a/b|1",
		"out|shop/|1", "out|shop/a|1|mirrors", "out|shop/a|1|", "out|shop/a|70000", "out|shop/a|01", "in|x|y", "cert|shop", "gw|", "what|10.0.0.1:1", "shop/loans",
	} {
		if n, err := envoy.ParseName(s); err == nil {
			t.Errorf("%q was taken as %+v", s, n)
		}
	}
}

func TestParseGateCluster(t *testing.T) {
	a, err := envoy.ParseGateCluster("dst|[fd00::1]:80")
	if err != nil || a.String() != "[fd00::1]:80" {
		t.Errorf("got %v, %v", a, err)
	}
	if _, err := envoy.ParseGateCluster("out|10.0.0.1:80"); err == nil {
		t.Error("a backend's name was taken for one of the gate")
	}
}

// TestNamesAreBounded: the longest that Kubernetes allows.
func TestNamesAreBounded(t *testing.T) {
	const most = 400
	label, subdomain := strings.Repeat("a", 63), strings.Repeat("b", 253)
	for _, n := range []string{
		envoy.OutCluster(model.BackendRef{Service: model.Name{Namespace: label, Name: label}, Port: 65535}),
		envoy.CertificateSecret(model.Name{Namespace: label, Name: subdomain}),
		envoy.GateCluster(netip.MustParseAddrPort("[fd00:1111:2222:3333:4444:5555:6666:7777]:65535")),
	} {
		if len(n) > most {
			t.Errorf("%q has %d bytes", n, len(n))
		}
	}
}

func FuzzParseName(f *testing.F) {
	for _, s := range []string{"out|shop/loans|80", "out|shop/loans|80|mirror", "dst|[fd00::1]:80", "10.0.0.1:1", "rbac|1|http-deny", "cert|a/b", "gw|1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := envoy.ParseName(s); err == nil && n.String() != s {
			t.Errorf("%q came back as %q", s, n)
		}
	})
}
