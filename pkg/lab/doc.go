// Package lab is a mesh on one machine: the same YAML as in a cluster, run
// with no cluster. It plays API server (store), controllers (control), kubelet
// (kubelet), service proxy and network (network), DNS (dns) and container
// runtime (sandbox), just enough; meshd itself runs as a pod in it and knows
// nothing of the lab.
//
//	meshd lab up --- socket ---> daemon: store -> control -> store
//	                                       |
//	                    on every change    +-> files that meshd reads
//	                                       +-> service proxy, DNS
//	                                       +-> kubelet -> pods
package lab
