// Package publish keeps the cache up to date with the mesh and with what
// workloads have asked for. It is scope.Of, envoy.Translate and the cache's gate
// taken apart, so that a change costs what it concerns, once for all keys:
//
//	model.Mesh --> Destination, by address --> Translation, checked --+
//	model.Mesh --> View without them, by key --> Translation, checked-+--> cache.PublishParts
//	demand, by key ---------------------------------------------------+
//
// What is published is what the whole functions would give.
package publish
