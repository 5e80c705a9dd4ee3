// Package version is which meshd this is.
package version

// Version of meshd, its agent and its chart (appVersion), without a "v". It is
// a constant, so that the same sources give the same binary, whoever builds it.
const Version = "0.5.0"
