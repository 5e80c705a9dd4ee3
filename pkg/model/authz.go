package model

import (
	"net/netip"

	"github.com/meshd-io/meshd/pkg/report"
)

// Authz is every AuthorizationPolicy that applies to a port.
//
// The verdict: any rule of Deny matches -> refused. Otherwise, where Allow has
// a policy (even one without rules), one of its rules must match. Otherwise
// DefaultDeny decides. Audit policies change nothing.
type Authz struct {
	Deny, Allow           []AuthzPolicy // sorted by Name
	AuditDeny, AuditAllow []AuthzPolicy
	DefaultDeny           bool
}

// AuthzPolicy is the rules of one object. A Deny without rules denies all (its
// object could never be compiled); an Allow without rules allows nothing.
type AuthzPolicy struct {
	Name   Name
	Rules  []AuthzRule
	Origin report.Origin
}

// AuthzRule matches when one of its sources and one of its To match.
type AuthzRule struct {
	Sources []AuthzSource // none = anyone
	To      []AuthzTo     // none = anything
}

// AuthzSource matches when all its fields that are set match.
type AuthzSource struct {
	// Identities are exact SPIFFE IDs, with the trust domain's aliases written out: any of them.
	Identities []string
	// IdentityPrefixes are SPIFFE IDs up to and with the last "/": any of them.
	// Where both lists are set, a peer matches by either.
	IdentityPrefixes []string
	JWT              *JWTSource
	CIDR             netip.Prefix // of the direct peer; invalid = any
	ForwardedCIDR    netip.Prefix
}

// JWTSource is a token's issuer and claims.
type JWTSource struct {
	Issuer string
	Claims []ClaimMatch
}

// ClaimMatch matches when the claim at Path has any of the values.
type ClaimMatch struct {
	Path   []string
	Values []string
}

// AuthzTo matches when all its fields that are set match; of each list, any value.
type AuthzTo struct {
	Ports   []uint16
	Methods []string
	Paths   []PathPattern
	Headers []HeaderMatch
	GRPC    []GRPCMatch
}

// NeedsHTTP reports whether requests must be seen to match this.
func (t AuthzTo) NeedsHTTP() bool {
	return len(t.Methods)+len(t.Paths)+len(t.Headers)+len(t.GRPC) > 0
}

// PathPattern is a path as AuthorizationPolicy has it, split into segments.
type PathPattern struct {
	// Segments without slashes; "{}" stands for any one non-empty segment.
	Segments []string
	// Prefix: what is below matches too (the pattern ended in /*).
	Prefix bool
}

// HeaderMatch matches when the header has any of the values, exactly.
type HeaderMatch struct {
	Name   string // lower case
	Values []string
}

// GRPCMatch matches a gRPC service; no methods = all of it.
type GRPCMatch struct {
	Service string
	Methods []string
}
