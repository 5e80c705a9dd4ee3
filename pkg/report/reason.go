package report

// Reason is the machine-readable cause of a condition: one CamelCase word that
// never changes once released.
type Reason string

// The reasons. The comment of each is its documentation (docs/reference).
const (
	// Parse: the file is not YAML, or the document has no kind or name.
	Parse Reason = "Parse"
	// Unreadable: the file or folder cannot be read, or is too large; what came from it before stays in force.
	Unreadable Reason = "Unreadable"
	// UnknownKind: no kind of this group and version is known.
	UnknownKind Reason = "UnknownKind"
	// UnknownField: the object has a field that its kind does not have.
	UnknownField Reason = "UnknownField"
	// Duplicate: two documents declare the same object; the first one counts.
	Duplicate Reason = "Duplicate"
	// Invalid: a value is not allowed where it stands.
	Invalid Reason = "Invalid"
	// Unsupported: the field is part of the API, but this version of meshd does not carry it out.
	Unsupported Reason = "Unsupported"
	// NotFound: an object that this one names does not exist.
	NotFound Reason = "NotFound"
	// PortNotFound: the Service or workload exists, but has no such port.
	PortNotFound Reason = "PortNotFound"
	// NoEndpoints: the Service has no ready endpoint.
	NoEndpoints Reason = "NoEndpoints"
	// NoMatch: the selector matches no pod.
	NoMatch Reason = "NoMatch"
	// Conflict: another object already claims the same thing.
	Conflict Reason = "Conflict"
	// Overridden: a more specific or older object has the say; the message names it.
	Overridden Reason = "Overridden"
	// InvalidCertificate: a Secret holds no usable certificate and key.
	InvalidCertificate Reason = "InvalidCertificate"
	// OutsideCIDRs: an address lies outside of the mesh's CIDRs.
	OutsideCIDRs Reason = "OutsideCIDRs"
	// PodsOutsideCIDRs, on MeshConfig: pods that it does not cover, by name.
	PodsOutsideCIDRs Reason = "PodsOutsideCIDRs"
	// Rejected: an Envoy refused the configuration; the message carries its words. The last good version stays in force.
	Rejected Reason = "Rejected"
	// NotInjected: the pod is left outside of the mesh although its namespace or the mesh's default would have it in.
	NotInjected Reason = "NotInjected"
	// NoSidecar: the pod should be in the mesh and runs outside of it, since it was created before its label or without meshd.
	NoSidecar Reason = "NoSidecar"
	// NotServed: the cluster does not serve an API that the field's value needs; the message says what is done instead.
	NotServed Reason = "NotServed"
	// Immutable: the field may not change while proxies live.
	Immutable Reason = "Immutable"
	// NoMatchingParent, of a route: a parentRef names no port of a Service that routes can be attached to.
	NoMatchingParent Reason = "NoMatchingParent"
	// UnsupportedValue, of a route: a value that this version of meshd does not carry out, or nobody could; no rule is left.
	UnsupportedValue Reason = "UnsupportedValue"
	// IncompatibleFilters, of a route: the filters of a rule exclude each other; no rule is left.
	IncompatibleFilters Reason = "IncompatibleFilters"
	// PartiallyInvalid, of a route: some of its rules are not in force; the message names them, and the others are.
	PartiallyInvalid Reason = "PartiallyInvalid"
	// BackendNotFound, of a route: there is no such Service, or it has no such port; its share of the requests gets 500.
	BackendNotFound Reason = "BackendNotFound"
	// InvalidKind, of a route: only a Service can be a backend; the share of the requests gets 500.
	InvalidKind Reason = "InvalidKind"
	// UnsupportedProtocol, of a route: the backend's port does not speak HTTP; its share of the requests gets 500.
	UnsupportedProtocol Reason = "UnsupportedProtocol"
	// Ignored: the field has no meaning here; the message says what to use instead.
	Ignored Reason = "Ignored"
	// Pending: proxies have yet to acknowledge this generation; the message names the first of them.
	Pending Reason = "Pending"
)

// Informs reports whether a finding with this reason leaves its condition true:
// it is said beside the condition and takes nothing away from it.
func (r Reason) Informs() bool {
	switch r {
	case Overridden, NoMatch, NoEndpoints, Duplicate, NotInjected, NoSidecar, NotServed, PodsOutsideCIDRs, PartiallyInvalid, Ignored:
		return true
	}
	return false
}
