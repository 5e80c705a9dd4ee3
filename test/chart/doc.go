// Package chart tests charts/meshd with the real helm and a real API server:
// what it renders, what it refuses, and what meshd may then do.
package chart
