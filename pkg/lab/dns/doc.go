// Package dns is the lab's DNS server: Kubernetes' names for Services and pods,
// from a table that the lab replaces as a whole.
//
// It is authoritative for the cluster domain. The difference between "no such
// name" (NXDOMAIN) and "the name exists, but has no address of this family"
// (an empty answer) is kept, because resolvers walk their search list by it:
// musl stops at anything else than NXDOMAIN, glibc asks A and AAAA side by side.
package dns
