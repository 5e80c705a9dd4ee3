// Package cache is the gate before the wire: it checks translations, encodes
// each resource once and keeps, per key, the snapshot that all its proxies see.
//
//	envoy.Resources --gate, hash, intern--> Snapshot --> server
//	                                           ^
//	                 Reject, Accept (what Envoys say)
//
// A resource that fails the gate or that an Envoy refuses is put aside: its
// last good version stays in force, for new proxies too. Snapshots are
// immutable; versions are content hashes; equal resources of different keys
// share their bytes.
package cache
