// Package crds is where objects come in: from files (load.go) and, later, from
// a cluster (watch.go). It gives immutable Snapshots and judges nothing but
// whether an object may exist at all: decoding, schema, CEL.
package crds
