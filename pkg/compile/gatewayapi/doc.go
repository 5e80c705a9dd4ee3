// Package gatewayapi compiles routes of the Gateway API that are attached to
// Services (GAMMA, GEP-1294): HTTPRoute.
//
//	RouteOf: what an object says             -> Route
//	Bind:    the Services that it names      -> Bound
//	Compile: all that is bound to a Service  -> model.Routing
//
// A rule whose matches cannot be read is dropped, one whose filters cannot be
// carried out answers 500, and the others are in force. Pure.
package gatewayapi
