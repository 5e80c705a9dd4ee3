// Package identity maps Kubernetes service accounts to SPIFFE IDs and back.
//
// Its values cannot be invalid: every constructor checks, and the fields are
// private. The shape is spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT.
// It is a leaf: it imports go-spiffe and nothing of meshd.
package identity
