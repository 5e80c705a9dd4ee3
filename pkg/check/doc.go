// Package check judges whether a mesh is healthy:
//
//	Facts --> Run --> []Result, one per check, each with its cure
//
// It is pure: what the facts are gathered from (a cluster, an admin socket) and
// what time it is, the caller says.
package check
