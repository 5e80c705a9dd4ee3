// Package object has what every stage of compilation says about Kubernetes
// objects: their names, origins and ages, and findings on them. Pure.
package object
