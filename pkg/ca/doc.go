// Package ca is the mesh's certificate authority: root -> issuer -> leaf.
//
//	proven identity + CSR -> request.Check -> template -> sign -> check -> leaf
//
// The root lives in a store and signs issuers only. Each process makes its own
// issuer and holds it in memory. What is signed is built from the identity that
// attest or a certificate has proven, and judged again before it leaves.
package ca
