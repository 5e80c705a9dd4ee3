// Package compile turns a Snapshot of Kubernetes objects into the mesh's model
// and findings on the objects. It is where references are resolved, defaults
// filled in and policies merged, once.
//
//	settings -> policy.Read -> services.Take -> policy.Traffic -> Workloads -> policy.Bind -> Services -> ingress
//
// It is pure: no context, clock, file, network or logger. Equal input, in
// whatever order, gives equal output. What an object had before it was broken
// comes in as a value (Memory).
package compile
