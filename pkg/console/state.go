package console

import (
	"encoding/json"
	"time"

	"github.com/meshd-io/meshd/pkg/report"
)

// State is the answer to GET /state on the admin socket.
type State struct {
	// Ready: all sources have synced and a first configuration is published.
	Ready bool `json:"ready"`
	// Synced: every live proxy has acknowledged everything that was published for it.
	Synced   bool             `json:"synced"`
	Objects  []Object         `json:"objects"`  // sorted by kind, namespace, name
	Findings []report.Finding `json:"findings"` // sorted
	Proxies  []Proxy          `json:"proxies"`  // sorted by name
	// Version of the meshd that answers.
	Version string `json:"version,omitempty"`
	// Authority has the certificates that it signs with.
	Authority *Authority `json:"authority,omitempty"`
}

// Authority is one replica's CA.
type Authority struct {
	// Roots that may be trusted: while they rotate, the old and the new.
	Roots []Certificate `json:"roots"`
	// Issuer signs the leaves.
	Issuer Certificate `json:"issuer"`
}

// Certificate is a CA certificate.
type Certificate struct {
	// Fingerprint is the SHA-256 of its DER, in hex.
	Fingerprint string    `json:"fingerprint"`
	NotBefore   time.Time `json:"notBefore"`
	NotAfter    time.Time `json:"notAfter"`
}

// Object is one of meshd's kinds, an Ingress or a route, with its status.
type Object struct {
	Kind       string          `json:"kind"`
	Namespace  string          `json:"namespace,omitempty"`
	Name       string          `json:"name"`
	Generation int64           `json:"generation"`
	Status     json.RawMessage `json:"status"`
}

// Proxy is one connected Envoy.
type Proxy struct {
	Name     string `json:"name"` // NAMESPACE/POD
	Kind     string `json:"kind"` // sidecar or gateway
	Identity string `json:"identity"`
	// Workload is its key, readable.
	Workload  string    `json:"workload"`
	Connected time.Time `json:"connected"`
	// CertificateExpires is the NotAfter of the certificate that it last showed.
	CertificateExpires time.Time `json:"certificateExpires"`
	// Synced: everything that was published for it is acknowledged.
	Synced       bool `json:"synced"`
	Destinations int  `json:"destinations"` // in use, by address
	// Refused is why meshd refuses it further destinations.
	Refused string      `json:"refused,omitempty"`
	Types   []ProxyType `json:"types"` // sorted by type
}

// ProxyType is what a proxy holds of one xDS type.
type ProxyType struct {
	Type         string `json:"type"` // short: listener, cluster, ...
	Resources    int    `json:"resources"`
	Version      string `json:"version"`      // of the newest published set
	Acknowledged string `json:"acknowledged"` // the newest that the proxy has accepted
	// Rejected: resources that the proxy refused, with its words.
	Rejected []Rejection `json:"rejected,omitempty"`
}

// Rejection is a resource that an Envoy refused.
type Rejection struct {
	Resource string          `json:"resource"`
	Version  string          `json:"version"`
	Message  string          `json:"message"`
	Origins  []report.Origin `json:"origins,omitempty"`
}
