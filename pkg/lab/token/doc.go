// Package token issues the service-account tokens of the lab: JWTs as an API
// server signs them, bound to a pod.
package token
