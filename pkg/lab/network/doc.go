// Package network is the lab's network: pods as network namespaces, all of them
// attached to one router, the lab's root namespace ("the node").
//
//	pod eth0 --veth-- node --veth-- pod eth0
//	                    |
//	                    +---veth--- host (root only), external namespaces
//
// Nothing is bridged. Every pod has a /32 (/128) address and a default route to
// the node, so every packet between pods is routed by the node, where the
// service proxy (nftables) sees it and, on the way back, its reply.
//
// A Network lives in the process whose network namespace is the node. All that
// it makes (links, routes, rules) is owned by that namespace or by namespaces
// that only file descriptors of this process hold: when the process dies, the
// kernel removes everything.
package network
