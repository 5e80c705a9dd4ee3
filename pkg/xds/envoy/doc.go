// Package envoy turns a View into Envoy resources. It sees nothing else: no
// node, context, clock, logger or flag. Equal Views give equal bytes. Pure.
package envoy
