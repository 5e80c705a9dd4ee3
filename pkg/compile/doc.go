// Package compile turns a Snapshot of Kubernetes objects into the mesh's model
// and findings on the objects. It is where references are resolved, defaults
// filled in and policies merged, once.
//
//	objects, read one by one -> profiles, keys -> who is behind a Service -> TrafficPolicies
//	-> ports of pods -> workloads with their policies -> Services -> ingress
//
// Each value is a pure function of those that it reads, in a table of package
// memo (newTables): no context, clock, file, network or logger. Equal input, in
// whatever order, gives equal output. A Compiler keeps the tables from one
// snapshot to the next, and what an object had before it was broken (memory).
package compile
