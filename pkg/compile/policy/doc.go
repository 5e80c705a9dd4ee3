// Package policy compiles meshd's own policies: PeerAuthentication,
// AuthorizationPolicy, TrafficPolicy; RequestAuthentication is refused.
//
// InForce reads an object: it becomes a value that is in force, or a finding
// and its last good version. Resolve says whose pods it selects. MergeFor merges
// TrafficPolicies for a Service; BindPeers and BindAuthz put modes and
// authorisation on the ports of a workload. Pure.
package policy
