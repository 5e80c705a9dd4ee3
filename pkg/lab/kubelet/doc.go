// Package kubelet runs the pods of the lab as a kubelet would: volumes,
// environment, init containers and native sidecars in order, probes, restarts,
// a graceful end, and the pod's status. Processes and network namespaces are
// the Runtime's, which is another package.
package kubelet
