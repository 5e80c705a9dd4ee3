// Package agent is the small process beside each workload: it makes the key,
// has it certified by meshd, and gives key, certificate and trust to Envoy (SDS)
// and to applications (SPIFFE Workload API) on one Unix socket.
//
//	token file + CSR -> meshd.ca.v1 Sign -> check -> Secrets -> SDS v3, Workload API
//
// The key never leaves the pod. While meshd is away the last certificate is
// served on. It imports no Kubernetes package.
package agent
