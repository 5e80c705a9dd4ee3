// Package envoytest finds the real Envoy that tests are run against, and asks
// it whether configuration loads. It is for tests only.
package envoytest
