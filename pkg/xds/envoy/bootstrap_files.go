package envoy

import (
	"fmt"
	"path"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// Where kubelet carries a pod's identity (KEP-4317), and there is no agent.
const (
	// IdentityDir is a projected volume with the files below.
	IdentityDir = "/etc/meshd/identity"
	// CredentialFile is the private key and the certificate chain in one, so that they are always of one another.
	CredentialFile = "credentialbundle.pem"
	// AnchorFile is what meshd itself is trusted by.
	AnchorFile = "ca.crt"
	// leafFile and anchorSecretFile tell Envoy about the two: it follows files by SDS alone.
	leafFile         = "leaf.json"
	anchorSecretFile = "anchor.json"
)

// FileSecrets are the files, by name, from which a proxy learns where in dir
// kubelet keeps its certificate and trust anchor. They never change; what they
// name is read anew whenever kubelet swaps the volume's content (an atomic
// rename in dir), and what cannot be read leaves the old in force.
func FileSecrets(dir string) (map[string]string, error) {
	file := func(name string) *corev3.DataSource {
		return &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: path.Join(dir, name)}}
	}
	watched := &corev3.WatchedDirectory{Path: dir}
	out := map[string]string{}
	for name, secret := range map[string]*tlsv3.Secret{
		leafFile: {Name: LeafSecret, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
			CertificateChain: file(CredentialFile), PrivateKey: file(CredentialFile), WatchedDirectory: watched,
		}}},
		anchorSecretFile: {Name: MeshdTrustSecret, Type: &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{
			TrustedCa: file(AnchorFile), WatchedDirectory: watched,
		}}},
	} {
		text, err := compactJSON(&discoveryv3.DiscoveryResponse{Resources: []*anypb.Any{pack(secret)}})
		if err != nil {
			return nil, fmt.Errorf("secret %s: %w", name, err)
		}
		out[name] = string(text)
	}
	return out, nil
}

// secretSource is where a proxy has what belongs to its pod alone: LeafSecret
// and MeshdTrustSecret.
type secretSource struct {
	dir string // of the files; "" is the pod's agent
}

// sourceOf: all pods of a Key have the same.
func sourceOf(podCertificate bool) secretSource {
	if podCertificate {
		return secretSource{dir: IdentityDir}
	}
	return secretSource{}
}

func (s secretSource) leaf(wait time.Duration) *tlsv3.SdsSecretConfig {
	if s.dir == "" {
		return agentSecret(LeafSecret, wait)
	}
	return fileSecret(LeafSecret, path.Join(s.dir, leafFile), wait)
}

func (s secretSource) anchor(wait time.Duration) *tlsv3.SdsSecretConfig {
	if s.dir == "" {
		return agentSecret(MeshdTrustSecret, wait)
	}
	return fileSecret(MeshdTrustSecret, path.Join(s.dir, anchorSecretFile), wait)
}

func fileSecret(name, file string, wait time.Duration) *tlsv3.SdsSecretConfig {
	return &tlsv3.SdsSecretConfig{Name: name, SdsConfig: &corev3.ConfigSource{
		ResourceApiVersion:  corev3.ApiVersion_V3,
		InitialFetchTimeout: seconds(wait),
		ConfigSourceSpecifier: &corev3.ConfigSource_PathConfigSource{
			PathConfigSource: &corev3.PathConfigSource{Path: file},
		},
	}}
}
