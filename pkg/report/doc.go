// Package report has the words by which meshd tells users what is wrong with
// their objects (Finding) and what an Envoy resource was made from (Origin).
// Findings are values that pure code returns; `error` is for meshd's own
// failure. It is a leaf.
package report
