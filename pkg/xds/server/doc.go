// Package server speaks delta xDS with Envoys.
//
//	cache.Snapshot --> session (pure) --> stream --> Envoy
//	Recorder, Keyer, Demander <-- effects <--+
//
// A session is the state of one stream: events in (a request, a snapshot),
// messages and effects out; it knows no network and no clock. A stream drives
// one session: requests on the goroutine of its connection (package wire),
// snapshots on a few workers that send for all streams.
//
// Order on the ADS stream is make before break, on acknowledgements: secrets,
// clusters with their endpoints and new scopes, then extensions, scopes and routes, then
// listeners, and removals last. Endpoints are sent again behind every cluster
// update, because Envoy warms a changed cluster until its assignment comes again
// and does not ask for it.
//
// The gate's clusters (dst|...) have a DeltaClusters stream of their own. An
// answer waits until the ADS stream of the same proxy has acknowledged what the
// cluster comes after.
package server
