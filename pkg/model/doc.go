// Package model is the compiled mesh: plain values without Kubernetes or Envoy.
//
// Everything here is immutable once compiled, sorted where it is a list, and
// complete: references are resolved, defaults filled in, policies merged. A
// zero value is a default; nil slices and empty ones mean the same, unless a
// field says otherwise. It is a leaf.
package model
