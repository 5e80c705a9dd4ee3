// Package ingress compiles the Ingresses of meshd's classes into one gateway:
// virtual hosts with routes, and certificates by SNI. Pure.
package ingress
