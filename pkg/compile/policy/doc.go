// Package policy compiles meshd's own policies: PeerAuthentication,
// AuthorizationPolicy, TrafficPolicy; RequestAuthentication is refused.
//
// Read takes the objects in: each becomes a value that is in force, or a
// finding and its last good version. Traffic merges TrafficPolicies per
// Service; Bind puts modes and authorisation on the ports of workloads. Pure.
package policy
