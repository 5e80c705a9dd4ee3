// Package attest proves who asks: it verifies the service-account token of a
// pod (a JWT bound to that pod, made for meshd alone) and gives its identity.
package attest
