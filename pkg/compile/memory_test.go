package compile

import (
	"testing"
	"time"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

func TestMemoryForgetsWhatIsGone(t *testing.T) {
	snap := decodeLax(t, []byte("{kind: PeerAuthentication, metadata: {name: p, namespace: shop}, spec: {mode: Permissive}}"))
	other := decodeLax(t, []byte("{kind: MeshConfig, metadata: {name: default}, spec: {trustDomain: example.org}}"))
	for name, then := range map[string]*crds.Snapshot{"deleted": {}, "deleted while everything changes": other} {
		c := NewCompiler()
		c.Compile(snap, Config{})
		if len(c.memory.peerAuthentications) != 1 {
			t.Fatal("an accepted policy was not remembered")
		}
		c.Compile(then, Config{})
		if len(c.memory.peerAuthentications) != 0 {
			t.Errorf("%s: it is still remembered", name)
		}
	}
}

func TestMemoryKeepsOverriddenPolicies(t *testing.T) {
	snap := decodeLax(t, []byte("{kind: PeerAuthentication, metadata: {name: a, namespace: shop}, spec: {mode: Strict}}\n---\n"+
		"{kind: PeerAuthentication, metadata: {name: b, namespace: shop}, spec: {mode: Disable}}\n---\n"+
		"{kind: Pod, metadata: {name: x, namespace: shop}, spec: {initContainers: [{name: meshd-proxy}]}}"))
	c := NewCompiler()
	_, fs := c.Compile(snap, Config{})
	if len(fs) != 1 || fs[0].Reason != report.Overridden {
		t.Fatalf("findings %v", fs)
	}
	if c.memory.peerAuthentications[model.Name{Namespace: "shop", Name: "b"}] == nil {
		t.Error("an overridden policy is accepted, yet it was not remembered")
	}
}

func TestMemoryOutlivesSeveralBrokenVersions(t *testing.T) {
	good := decodeLax(t, []byte("{kind: MeshConfig, metadata: {name: default}, spec: {trustDomain: example.org}}"))
	bad := decodeLax(t, []byte("{kind: MeshConfig, metadata: {name: default}, spec: {trustDomain: 'a b'}}"))
	mesh, _ := compileAll([]*crds.Snapshot{good, bad, bad, bad}, Config{})
	if mesh.Settings.TrustDomain != "example.org" {
		t.Errorf("the trust domain became %s", mesh.Settings.TrustDomain)
	}
}

func TestCASettings(t *testing.T) {
	standard := CA{Source: SelfSigned, Root: 87600 * time.Hour, Issuer: 168 * time.Hour, Leaf: time.Hour}
	secret := func(namespace, name string) CA {
		ca := standard
		ca.Source, ca.SecretNamespace, ca.SecretName = FromSecret, namespace, name
		return ca
	}
	for name, c := range map[string]struct {
		spec meshv1a1.CertificateAuthoritySpec
		want CA
		ok   bool
	}{
		"defaults": {want: standard, ok: true},
		"a minute": {
			spec: meshv1a1.CertificateAuthoritySpec{Lifetimes: meshv1a1.Lifetimes{Leaf: "1m", Issuer: "1h"}},
			want: CA{Source: SelfSigned, Root: 87600 * time.Hour, Issuer: time.Hour, Leaf: time.Minute}, ok: true,
		},
		"leaf outlives issuer": {
			spec: meshv1a1.CertificateAuthoritySpec{Lifetimes: meshv1a1.Lifetimes{Leaf: "2h", Issuer: "1h"}},
			want: standard,
		},
		"no duration": {spec: meshv1a1.CertificateAuthoritySpec{Lifetimes: meshv1a1.Lifetimes{Leaf: "1 hour"}}, want: standard},
		"zero":        {spec: meshv1a1.CertificateAuthoritySpec{Lifetimes: meshv1a1.Lifetimes{Leaf: "0s"}}, want: standard},
		"a secret":    {spec: meshv1a1.CertificateAuthoritySpec{Source: "Secret"}, want: secret("meshd-system", "meshd-ca"), ok: true},
		"a named secret": {
			spec: meshv1a1.CertificateAuthoritySpec{Source: "Secret", SecretRef: &meshv1a1.SecretRef{Namespace: "pki", Name: "mesh"}},
			want: secret("pki", "mesh"), ok: true,
		},
		"a secret, but no duration": {
			spec: meshv1a1.CertificateAuthoritySpec{Source: "Secret", Lifetimes: meshv1a1.Lifetimes{Leaf: "1 hour"}},
			want: secret("meshd-system", "meshd-ca"),
		},
		"another source": {spec: meshv1a1.CertificateAuthoritySpec{Source: "Vault"}, want: standard},
	} {
		ca := &meshv1a1.CertificateAuthority{Spec: c.spec}
		ca.Name = "default"
		got, ok := CASettings(&crds.Snapshot{CertificateAuthorities: []*meshv1a1.CertificateAuthority{ca}})
		got.Origin = report.Origin{}
		if got != c.want || ok != c.ok {
			t.Errorf("%s: got %+v, %v", name, got, ok)
		}
	}
	if got, ok := CASettings(&crds.Snapshot{}); !ok || got != standard {
		t.Errorf("without an object: %+v, %v", got, ok)
	}
}
