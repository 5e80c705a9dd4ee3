// Package authn is the one authentication layer of meshd's gRPC server: it
// covers every method, streaming and unary, and refuses methods that no rule names.
package authn
