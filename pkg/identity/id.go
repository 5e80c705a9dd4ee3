package identity

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// ID is the identity of a workload: a service account of a trust domain.
// The zero value is no identity (IsZero).
type ID struct {
	trustDomain    spiffeid.TrustDomain
	namespace      string
	serviceAccount string
}

// dnsLabel is RFC 1123's label, the shape of a namespace.
var dnsLabel = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// dnsSubdomain is RFC 1123's subdomain, the shape of a service account's name.
var dnsSubdomain = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

const maxSubdomain = 253

// New gives the ID of a service account. It fails for a trust domain that is
// not one by the SPIFFE-ID standard, and for names that Kubernetes refuses.
func New(trustDomain, namespace, serviceAccount string) (ID, error) {
	td, err := spiffeid.TrustDomainFromString(trustDomain)
	if err != nil {
		return ID{}, fmt.Errorf("trust domain %q: %w", trustDomain, err)
	}
	if strings.Contains(trustDomain, "/") {
		return ID{}, fmt.Errorf("trust domain %q: a name is wanted, not an ID", trustDomain)
	}
	if !dnsLabel.MatchString(namespace) {
		return ID{}, fmt.Errorf("namespace %q is not a DNS label", namespace)
	}
	if len(serviceAccount) > maxSubdomain || !dnsSubdomain.MatchString(serviceAccount) {
		return ID{}, fmt.Errorf("service account %q is not a DNS subdomain", serviceAccount)
	}
	return ID{trustDomain: td, namespace: namespace, serviceAccount: serviceAccount}, nil
}

// Parse reads spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT and nothing else.
func Parse(uri string) (ID, error) {
	id, err := spiffeid.FromString(uri)
	if err != nil {
		return ID{}, fmt.Errorf("SPIFFE ID %q: %w", uri, err)
	}
	seg := strings.Split(strings.TrimPrefix(id.Path(), "/"), "/")
	if len(seg) != 4 || seg[0] != "ns" || seg[2] != "sa" {
		return ID{}, fmt.Errorf("SPIFFE ID %q: the path is not /ns/NAMESPACE/sa/SERVICE-ACCOUNT", uri)
	}
	return New(id.TrustDomain().Name(), seg[1], seg[3])
}

// TrustDomain is the name of the trust domain, without a scheme.
func (id ID) TrustDomain() string { return id.trustDomain.Name() }

// Namespace of the service account.
func (id ID) Namespace() string { return id.namespace }

// ServiceAccount is its name.
func (id ID) ServiceAccount() string { return id.serviceAccount }

// IsZero reports whether this is no identity.
func (id ID) IsZero() bool { return id == ID{} }

// String is the SPIFFE ID as a URI; "" for the zero value.
func (id ID) String() string {
	if id.IsZero() {
		return ""
	}
	return "spiffe://" + id.trustDomain.Name() + "/ns/" + id.namespace + "/sa/" + id.serviceAccount
}

// SPIFFE is the same ID as go-spiffe has it; zero for the zero value.
func (id ID) SPIFFE() spiffeid.ID {
	if id.IsZero() {
		return spiffeid.ID{}
	}
	return spiffeid.RequireFromString(id.String())
}

// WithTrustDomain is the same service account in another trust domain.
func (id ID) WithTrustDomain(trustDomain string) (ID, error) {
	return New(trustDomain, id.namespace, id.serviceAccount)
}
