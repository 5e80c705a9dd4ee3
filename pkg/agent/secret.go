package agent

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/meshd-io/meshd/pkg/agent/sdspb"
)

// The names of the secrets, fixed by the sidecar's bootstrap.
const (
	// Leaf is the workload's certificate and key.
	Leaf = "default"
	// Anchor is what meshd is verified by.
	Anchor = "ROOTCA"
)

const secretType = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"

// resource is one secret, encoded, with a version that is a hash of its bytes.
type resource struct {
	version string
	body    *anypb.Any
}

// known reports whether the agent ever serves a secret of this name.
func known(name string) bool { return name == Leaf || name == Anchor }

// render gives the named secret; ok is false while there is none.
func (s Secrets) render(name string) (r resource, ok bool, err error) {
	var secret *sdspb.Secret
	switch {
	case name == Leaf && s.SVID != nil:
		secret, err = leafSecret(s.SVID)
	case name == Anchor && s.Anchor != nil:
		secret = anchorSecret(s.Anchor)
	default:
		return resource{}, false, nil
	}
	if err != nil {
		return resource{}, false, err
	}
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(secret)
	if err != nil {
		return resource{}, false, err
	}
	sum := sha256.Sum256(raw)
	return resource{version: hex.EncodeToString(sum[:8]), body: &anypb.Any{TypeUrl: secretType, Value: raw}}, true, nil
}

func leafSecret(s *SVID) (*sdspb.Secret, error) {
	key, err := x509.MarshalPKCS8PrivateKey(s.Key)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	var chain []byte
	for _, c := range s.Chain {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return &sdspb.Secret{Name: Leaf, Type: &sdspb.Secret_TlsCertificate{TlsCertificate: &sdspb.TlsCertificate{
		CertificateChain: inline(chain),
		PrivateKey:       inline(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})),
	}}}, nil
}

func anchorSecret(pem []byte) *sdspb.Secret {
	return &sdspb.Secret{Name: Anchor, Type: &sdspb.Secret_ValidationContext{
		ValidationContext: &sdspb.CertificateValidationContext{TrustedCa: inline(pem)},
	}}
}

func inline(b []byte) *sdspb.DataSource {
	return &sdspb.DataSource{InlineBytes: b}
}
