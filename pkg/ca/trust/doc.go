// Package trust publishes what workloads trust meshd by, so that it is never
// baked into a pod and can rotate:
//
//	bundle --> ConfigMap meshd-trust in each namespace that has injected pods
//	       --> ClusterTrustBundle meshd.io:workload:anchor, where the cluster serves it
//
// What others change or delete is put back; what is right is not written again.
// One process publishes: the leader.
package trust
