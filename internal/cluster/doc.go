// Package cluster runs a real Kubernetes of one node on this machine, for tests
// and for work by hand: etcd, kube-apiserver, controller manager, scheduler,
// containerd, kubelet, kube-proxy (nftables) and CoreDNS.
//
//	host --veth-- [ network, PID, mount, UTS and IPC namespace = the node ]
//	                 init (PID 1) -> supervisor -> etcd, kube-apiserver, ...
//	                 containerd's shims -> pods, each with a veth to the node
//
// Everything lives in namespaces whose first process is init: when that is
// killed, the kernel ends every other process of the node, unmounts what it had
// mounted and removes its links. What has to be written goes to a tmpfs of the
// node; on the host there are one folder, one link and one cgroup.
package cluster
