package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// RequestAuthentication says which JWTs are accepted.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=meshd
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Programmed",type=string,JSONPath=`.status.conditions[?(@.type=="Programmed")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Programmed")].reason`
// +kubebuilder:printcolumn:name="Acknowledged",type=integer,JSONPath=`.status.proxies.acknowledged`
// +kubebuilder:printcolumn:name="Proxies",type=integer,JSONPath=`.status.proxies.total`
// +kubebuilder:printcolumn:name="Rejected",type=integer,JSONPath=`.status.proxies.rejected`,priority=1
// +kubebuilder:printcolumn:name="Resolved",type=string,JSONPath=`.status.conditions[?(@.type=="ResolvedRefs")].status`,priority=1
// +kubebuilder:printcolumn:name="Laggards",type=string,JSONPath=`.status.laggards`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
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
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:XValidation:rule="self.kind in ['Namespace', 'Pod', 'Gateway']",fieldPath=".kind",message="kind must be Namespace, Pod or Gateway"
	TargetRefs []TargetRef `json:"targetRefs,omitempty"`
	// JWT: any of them. An issuer stands here once.
	// +listType=map
	// +listMapKey=issuer
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	JWT []JWTRule `json:"jwt"`
}

// JWTRule is one issuer.
type JWTRule struct {
	// Issuer is compared exactly with the token's iss.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Issuer string `json:"issuer"`
	// Audiences: any of them; any audience when left out.
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=512
	Audiences []string `json:"audiences,omitempty"`
	// JWKS: the issuer's keys, by URI or inline.
	JWKS JWKS `json:"jwks"`
	// From replaces the default place, Authorization: Bearer.
	// +optional
	From *JWTFrom `json:"from,omitempty"`
	// Forward the token to the application.
	// +optional
	Forward bool `json:"forward,omitempty"`
	// ClaimToHeaders: claims that are copied into headers of the request; what a client writes there is always removed.
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	ClaimToHeaders []ClaimToHeader `json:"claimToHeaders,omitempty"`
}

// JWKS is the issuer's keys, by URI or inline.
//
// +kubebuilder:validation:XValidation:rule="has(self.uri) != has(self.inline)",message="exactly one of uri and inline is needed"
type JWKS struct {
	// URI that the keys are read from.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:Pattern=`^https?://[^/?#\s@]+[^\s#]*$`
	URI string `json:"uri,omitempty"`
	// Inline is a JSON Web Key Set.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=65536
	Inline string `json:"inline,omitempty"`
}

// JWTFrom lists the places of a token.
//
// +kubebuilder:validation:XValidation:rule="(has(self.headers) && size(self.headers) > 0) || (has(self.params) && size(self.params) > 0) || (has(self.cookies) && size(self.cookies) > 0)",message="a place is needed: a header, a parameter or a cookie"
type JWTFrom struct {
	// Headers that may carry the token.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	Headers []JWTHeader `json:"headers,omitempty"`
	// Params of the query.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=256
	Params []string `json:"params,omitempty"`
	// Cookies that may carry the token.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=256
	// +kubebuilder:validation:items:Pattern=`^[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+$`
	Cookies []string `json:"cookies,omitempty"`
}

// JWTHeader is a header that carries a token behind a prefix.
type JWTHeader struct {
	// Name of the header.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+$`
	Name string `json:"name"`
	// Prefix is cut off, with its case, such as "Bearer ".
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Prefix string `json:"prefix,omitempty"`
}

// ClaimToHeader copies a claim, by its top-level name or its path, into a request header.
//
// +kubebuilder:validation:XValidation:rule="has(self.claim) != has(self.path)",message="exactly one of claim (a top-level claim) and path (a nested one) is needed"
type ClaimToHeader struct {
	// Claim at the top level, taken literally.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Claim string `json:"claim,omitempty"`
	// Path of a nested claim.
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=256
	Path []string `json:"path,omitempty"`
	// Header that the claim is copied into.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+$`
	Header string `json:"header"`
}

// RequestAuthenticationList is a list of RequestAuthentications.
//
// +kubebuilder:object:root=true
type RequestAuthenticationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []RequestAuthentication `json:"items"`
}
