// Package gateway makes the objects that run a gateway: a Deployment of stock
// Envoy with its agent, a Service and a ServiceAccount. It is pure; whoever
// calls it applies them. The containers are those of pkg/injector. Nothing is
// captured in a gateway's pod: it listens itself, and calls by its own
// configuration.
package gateway
