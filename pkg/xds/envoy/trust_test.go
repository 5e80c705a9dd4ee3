package envoy

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

// The CertificateAuthority's status counts who has acknowledged the bundle.
func TestTrustIsOfTheCertificateAuthority(t *testing.T) {
	from := report.Origin{Object: report.Object{Kind: "CertificateAuthority", Name: "default"}, Generation: 3}
	for _, tc := range []struct {
		origin report.Origin
		want   []report.Origin
	}{{from, []report.Origin{from}}, {report.Origin{}, nil}} {
		resources, _ := Translate(&scope.View{
			Key:   scope.Key{Kind: model.GatewayProxy, Namespace: "meshd-system", ServiceAccount: "meshd-ingress"},
			Trust: model.Trust{Bundle: "PEM", Origin: tc.origin},
		})
		got := resources[SecretType]
		if len(got) != 1 || got[0].Name != TrustSecret {
			t.Fatalf("secrets: %v", got)
		}
		if d := cmp.Diff(tc.want, got[0].Origins); d != "" {
			t.Error(d)
		}
	}
}
