// Package refusal has the reasons for which the CA refuses to sign, and the one
// error type that carries them: what goes over the wire and what goes into the
// audit log are two fields of it.
package refusal

import (
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Reason is the machine-readable cause of a refusal: one CamelCase word that
// never changes once released.
type Reason string

// Reasons about tokens.
const (
	// NoCredential: the call carries neither token nor certificate where one is needed.
	NoCredential Reason = "NoCredential"
	// TokenTooLarge: the token is longer than any real one.
	TokenTooLarge Reason = "TokenTooLarge"
	// TokenMalformed: the token is not a signed JWT in compact form with the claims that are needed.
	TokenMalformed Reason = "TokenMalformed"
	// TokenAlgorithm: the token is signed by an algorithm that is not allowed (none, HMAC and all but RS256 and ES256).
	TokenAlgorithm Reason = "TokenAlgorithm"
	// TokenKeyUnknown: no key of the issuer has the token's key id.
	TokenKeyUnknown Reason = "TokenKeyUnknown"
	// TokenSignature: the signature does not fit the issuer's key.
	TokenSignature Reason = "TokenSignature"
	// TokenIssuer: the token is of another issuer.
	TokenIssuer Reason = "TokenIssuer"
	// TokenAudience: the token is not for meshd.
	TokenAudience Reason = "TokenAudience"
	// TokenExpired: the token's time is over.
	TokenExpired Reason = "TokenExpired"
	// TokenNotYet: the token's time has not begun.
	TokenNotYet Reason = "TokenNotYet"
	// TokenLifetime: the token has no expiry, or lives longer than is allowed.
	TokenLifetime Reason = "TokenLifetime"
	// TokenSubject: the subject is not a service account, or disagrees with the other claims.
	TokenSubject Reason = "TokenSubject"
	// TokenNotBound: the token is not bound to a pod.
	TokenNotBound Reason = "TokenNotBound"
	// PodGone: the pod that the token is bound to does not exist (any more).
	PodGone Reason = "PodGone"
	// NodeMismatch: the pod runs on another node than its token says.
	NodeMismatch Reason = "NodeMismatch"
	// TokenRejected: the API server does not accept the token, or says something else of it than the token does.
	TokenRejected Reason = "TokenRejected"
)

// Reasons about certificates and methods.
const (
	// CertificateInvalid: the peer's certificate does not verify.
	CertificateInvalid Reason = "CertificateInvalid"
	// CertificateExpired: the peer's certificate has expired since the connection began.
	CertificateExpired Reason = "CertificateExpired"
	// ForeignTrustDomain: the peer is of another trust domain.
	ForeignTrustDomain Reason = "ForeignTrustDomain"
	// MethodNotListed: no rule says who may call the method.
	MethodNotListed Reason = "MethodNotListed"
)

// Reasons about CSRs and lifetimes.
const (
	// CSRTooLarge: the CSR is longer than any real one.
	CSRTooLarge Reason = "CSRTooLarge"
	// CSRMalformed: the CSR is not a PKCS #10 request in DER.
	CSRMalformed Reason = "CSRMalformed"
	// CSRTrailingData: bytes follow the CSR.
	CSRTrailingData Reason = "CSRTrailingData"
	// CSRSignature: the CSR is not signed by its own key: possession is not proven.
	CSRSignature Reason = "CSRSignature"
	// CSRKey: the key is not ECDSA on P-256 or P-384.
	CSRKey Reason = "CSRKey"
	// CSRName: the CSR asks for a name that is not the proven identity's.
	CSRName Reason = "CSRName"
	// CSRExtension: the CSR asks for something that a workload's certificate does not have, such as the CA bit.
	CSRExtension Reason = "CSRExtension"
	// Lifetime: the wanted lifetime is not positive, or exceeds the CA's setting.
	Lifetime Reason = "Lifetime"
	// NoIdentity: nothing was proven.
	NoIdentity Reason = "NoIdentity"
	// Busy: more requests wait than the CA takes; the caller tries again.
	Busy Reason = "Busy"
)

// Error is a refusal. Wire is safe to send to the peer. Detail is for the audit
// log only: it may quote what the peer sent, and never holds a token or key.
type Error struct {
	Reason Reason
	Wire   string
	Detail string
}

// New makes a refusal; detail is formatted for the log.
func New(r Reason, wire, detail string, args ...any) *Error {
	return &Error{Reason: r, Wire: wire, Detail: fmt.Sprintf(detail, args...)}
}

// Error is for logs: it includes the detail.
func (e *Error) Error() string {
	if e.Detail == "" {
		return string(e.Reason) + ": " + e.Wire
	}
	return string(e.Reason) + ": " + e.Wire + " (" + e.Detail + ")"
}

// GRPCStatus is what the peer sees: the reason and the safe message.
func (e *Error) GRPCStatus() *status.Status {
	return status.New(e.code(), string(e.Reason)+": "+e.Wire)
}

func (e *Error) code() codes.Code {
	switch e.Reason {
	case CSRTooLarge, CSRMalformed, CSRTrailingData, CSRSignature, CSRKey, CSRExtension, Lifetime:
		return codes.InvalidArgument
	case CSRName, MethodNotListed, ForeignTrustDomain:
		return codes.PermissionDenied
	case Busy:
		return codes.ResourceExhausted
	}
	return codes.Unauthenticated
}

// ReasonOf is the reason of a refusal in err's chain, or "".
func ReasonOf(err error) Reason {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return ""
}
