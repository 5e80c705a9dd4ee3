package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// RequestAuthentication says which JWTs are accepted.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
type RequestAuthentication struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              RequestAuthenticationSpec `json:"spec"`
	Status            PolicyStatus              `json:"status,omitempty"`
}

// RequestAuthenticationSpec lists the issuers.
type RequestAuthenticationSpec struct {
	// TargetRefs: Namespace, Pod or Gateway; left out = the whole namespace.
	// +optional
	TargetRefs []TargetRef `json:"targetRefs,omitempty"`
	// +kubebuilder:validation:MinItems=1
	JWT []JWTRule `json:"jwt"`
}

// JWTRule is one issuer.
type JWTRule struct {
	Issuer string `json:"issuer"`
	// +optional
	Audiences []string `json:"audiences,omitempty"`
	JWKS      JWKS     `json:"jwks"`
	// From replaces the default place, Authorization: Bearer.
	// +optional
	From *JWTFrom `json:"from,omitempty"`
	// Forward the token to the application.
	// +optional
	Forward bool `json:"forward,omitempty"`
	// +optional
	ClaimToHeaders []ClaimToHeader `json:"claimToHeaders,omitempty"`
}

// JWKS is the issuer's keys, by URI or inline.
type JWKS struct {
	// +optional
	URI string `json:"uri,omitempty"`
	// +optional
	Inline string `json:"inline,omitempty"`
}

// JWTFrom lists the places of a token.
type JWTFrom struct {
	// +optional
	Headers []JWTHeader `json:"headers,omitempty"`
	// +optional
	Params []string `json:"params,omitempty"`
	// +optional
	Cookies []string `json:"cookies,omitempty"`
}

// JWTHeader is a header that carries a token behind a prefix.
type JWTHeader struct {
	Name string `json:"name"`
	// +optional
	Prefix string `json:"prefix,omitempty"`
}

// ClaimToHeader copies a claim, by its top-level name or its path, into a request header.
type ClaimToHeader struct {
	// +optional
	Claim string `json:"claim,omitempty"`
	// +optional
	Path   []string `json:"path,omitempty"`
	Header string   `json:"header"`
}

// RequestAuthenticationList is a list of RequestAuthentications.
//
// +kubebuilder:object:root=true
type RequestAuthenticationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []RequestAuthentication `json:"items"`
}
