// Package capture redirects the TCP traffic of a network namespace to the
// sidecar in it, by nftables over netlink: no iptables or nft program. One
// table, inet "meshd", is replaced as a whole in one transaction, so that there
// is never half of it, and doing it again changes nothing.
//
//	from outside, to an address of the pod ---------------------> 15006
//	from a process of the pod, by an interface other than lo ---> 15001
//	from the proxy to the pod's own address (a self-call) ------> 15006
//
// A pod that calls itself through its Service is captured like any call, and
// its proxy then connects to the pod's own address, over lo: that is the
// self-call, to be received like a call from elsewhere. What the proxy delivers
// to its application takes the same way, and is told by its source address,
// DeliverySource or DeliverySource6.
//
// Left alone: what a process sends over lo, be it to 127.0.0.1 or to the pod's
// own address (it never leaves the pod, and no peer can be impersonated by it);
// IPv6 link-local destinations, which mean nothing without their interface;
// everything that is not TCP, DNS over UDP included; what the pod forwards for
// others. The proxy's ports are closed to all but redirected connections:
// Envoy would otherwise see itself as the destination and call itself without end.
package capture
