// Package cluster tests meshd in a real Kubernetes: the chart is installed by
// helm, the example bank is applied, and then everything happens that happens
// to a cluster, under a steady load.
//
//	make test-cluster                                       a cluster of its own, up and down
//	hack/cluster up; CLUSTER=existing KUBECONFIG=... make test-cluster
//	MESHD_INSTALLED=1 CLUSTER=existing KUBECONFIG=... MESHD_KUBE=$(hack/kube) go test ./test/cluster -run TestDemo
//
// CLUSTER=existing takes the cluster of KUBECONFIG and leaves it there;
// MESHD_INSTALLED=1 leaves out images and chart, where they are there already.
// MESHD_UPGRADE_FROM is the commit of the version that is upgraded first (the
// newest tag; where there is none, a fixed commit); a clone without it says
// NOT TESTED. MESHD_OUTAGE is how long the API server stays away (2m).
package cluster
