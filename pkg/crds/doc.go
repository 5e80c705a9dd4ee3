// Package crds is where objects come in: from files (load.go, watch.go) and
// from a cluster (cluster.go). It gives immutable Snapshots and judges nothing but
// whether an object may exist at all: decoding, schema, CEL.
//
//	file --> document --> declaration --merge--> entry --> Snapshot
//	(files)  (document)   (decode,       (merge: last good versions,
//	                       core, custom)  generations, duplicates)
//
// meshd's own kinds are held to their CustomResourceDefinitions by the code of
// the API server itself (custom.go); of Kubernetes' kinds it checks what meshd
// builds on (core_validate.go) and fills in the defaults that it reads
// (core_defaults.go). A fault is a finding with file, line and field; it takes
// neither the other documents of its file nor the last good version of its own
// object out of force.
package crds
