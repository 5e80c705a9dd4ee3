package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clusterservicev3 "github.com/envoyproxy/go-control-plane/envoy/service/cluster/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/meshd-io/meshd/internal/envoytest"
	"github.com/meshd-io/meshd/pkg/authn"
	"github.com/meshd-io/meshd/pkg/xds/acks"
	"github.com/meshd-io/meshd/pkg/xds/cache"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
	"github.com/meshd-io/meshd/pkg/xds/scope"
	"github.com/meshd-io/meshd/pkg/xds/server"
	"github.com/meshd-io/meshd/pkg/xds/wire"
)

// pki is an ad-hoc CA.
type pki struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newPKI(t *testing.T) *pki {
	t.Helper()
	p := &pki{t: t}
	p.key = newKey(t)
	p.cert = p.sign(&x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	}, p.key)
	return p
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (p *pki) sign(template *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	p.t.Helper()
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent := p.cert
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, p.key)
	if err != nil {
		p.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		p.t.Fatal(err)
	}
	return cert
}

func (p *pki) leaf(id string) (certPEM, keyPEM []byte) {
	p.t.Helper()
	uri, err := url.Parse(id)
	if err != nil {
		p.t.Fatal(err)
	}
	key := newKey(p.t)
	cert := p.sign(&x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), URIs: []*url.URL{uri}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, key)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		p.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func (p *pki) root() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.cert.Raw})
}

// plane is meshd's xDS server on the loopback, with mutual TLS, for one workload.
type plane struct {
	t    *testing.T
	pki  *pki
	port int
	// translate is the workload's configuration for what it has asked for.
	translate func(demanded []netip.AddrPort) envoy.Resources

	cache  *cache.Cache
	book   *acks.Book
	server *server.Server
	wire   *wire.Server

	mu         sync.Mutex
	publishing sync.Mutex
	demanded   []netip.AddrPort
}

const (
	meshdID    = "spiffe://cluster.local/ns/meshd-system/sa/meshd"
	accountsID = "spiffe://cluster.local/ns/shop/sa/accounts"
)

func accounts() scope.Key { return scope.Key{Namespace: "shop", ServiceAccount: "accounts"} }

func newPlane(t *testing.T, translate func([]netip.AddrPort) envoy.Resources) *plane {
	t.Helper()
	p := &plane{t: t, pki: newPKI(t), port: envoytest.FreePort(t), translate: translate}
	p.start()
	t.Cleanup(p.stop)
	return p
}

// start begins with an empty memory, as a process does.
func (p *plane) start() {
	p.t.Helper()
	p.mu.Lock()
	p.demanded = nil
	p.mu.Unlock()
	p.cache, p.book = cache.New(), acks.NewBook()
	p.server = server.New(server.Config{Cache: p.cache, Keyer: p, Demander: p, Recorder: p.book})
	auth, err := authn.New(authn.Config{TrustDomain: "cluster.local", Rules: authn.Rules{
		discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResources_FullMethodName: authn.Certificate,
		clusterservicev3.ClusterDiscoveryService_DeltaClusters_FullMethodName:          authn.Certificate,
	}})
	if err != nil {
		p.t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(p.pki.leaf(meshdID))
	if err != nil {
		p.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(p.pki.cert)
	p.wire = wire.New(wire.Config{
		Streams: p.server.Streams(func(r *wire.Request) (authn.Peer, error) { return auth.Connection(r.Method, r.From, r.TLS) }),
		TLS: &tls.Config{
			Certificates: []tls.Certificate{cert}, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert,
			MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"},
		},
	})
	lis, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p.port))
	if err != nil {
		p.t.Fatal(err)
	}
	go func(s *wire.Server) { _ = s.Serve(lis) }(p.wire)
	p.publish()
}

func (p *plane) stop() {
	p.wire.Close()
	p.server.Close()
}

// publish translates for what is demanded now: one at a time, or what was true before is published last.
func (p *plane) publish() {
	p.publishing.Lock()
	defer p.publishing.Unlock()
	p.mu.Lock()
	demanded, translate := slices.Clone(p.demanded), p.translate
	p.mu.Unlock()
	for _, f := range p.cache.Publish(accounts(), translate(demanded)) {
		p.t.Errorf("put aside by the gate: %+v", f)
	}
}

// change publishes by another translation.
func (p *plane) change(translate func([]netip.AddrPort) envoy.Resources) {
	p.mu.Lock()
	p.translate = translate
	p.mu.Unlock()
	p.publish()
}

// KeyFor implements server.Keyer.
func (p *plane) KeyFor(n scope.Node) (scope.Key, error) {
	if n.Identity.String() != accountsID {
		return scope.Key{}, scope.ErrUnknownPod
	}
	return accounts(), nil
}

// Demand implements server.Demander.
func (p *plane) Demand(_ scope.Key, addresses []netip.AddrPort, _ bool) {
	if len(addresses) == 0 {
		return
	}
	p.mu.Lock()
	p.demanded = append(p.demanded, addresses...)
	slices.SortFunc(p.demanded, netip.AddrPort.Compare)
	p.demanded = slices.Compact(p.demanded)
	p.mu.Unlock()
	p.publish()
}

// envoy starts a proxy of the workload.
func (p *plane) envoy() *envoytest.Envoy {
	p.t.Helper()
	return envoytest.Run(p.t, func(dir string) string {
		cert, key := p.pki.leaf(accountsID)
		for name, content := range map[string][]byte{"cert.pem": cert, "key.pem": key, "root.pem": p.pki.root()} {
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
				p.t.Fatal(err)
			}
		}
		return strings.NewReplacer("DIR", dir, "ADMIN", envoytest.AdminSocket(dir),
			"PORT", fmt.Sprint(p.port), "MESHD", meshdID).Replace(bootstrap)
	})
}

// synced waits until the proxy holds everything.
func (p *plane) synced(e *envoytest.Envoy) {
	p.t.Helper()
	e.Ready()
	envoytest.Eventually(p.t, "synced proxy", func() bool {
		ps := p.book.Ledger().Proxies()
		return len(ps) == 1 && ps[0].Synced
	}, func() string { return fmt.Sprintf("%+v", p.book.Ledger().Proxies()) })
}

const bootstrap = `
node: {id: sidecar~shop/accounts-1, cluster: shop/accounts}
admin: {address: {pipe: {path: ADMIN}}}
dynamic_resources:
  ads_config:
    api_type: DELTA_GRPC
    transport_api_version: V3
    set_node_on_first_message_only: true
    grpc_services: [{envoy_grpc: {cluster_name: meshd, retry_policy: {retry_back_off: {base_interval: 0.1s, max_interval: 0.5s}}}}]
  cds_config: {ads: {}, resource_api_version: V3, initial_fetch_timeout: 0s}
  lds_config: {ads: {}, resource_api_version: V3, initial_fetch_timeout: 0s}
static_resources:
  clusters:
  - name: meshd
    type: STATIC
    connect_timeout: 1s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
    load_assignment:
      cluster_name: meshd
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: PORT}}}}]}]
    transport_socket:
      name: tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        common_tls_context:
          tls_params: {tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3}
          alpn_protocols: [h2]
          tls_certificates: [{certificate_chain: {filename: DIR/cert.pem}, private_key: {filename: DIR/key.pem}}]
          validation_context:
            trusted_ca: {filename: DIR/root.pem}
            match_typed_subject_alt_names: [{san_type: URI, matcher: {exact: "MESHD"}}]
`
