// Package demand remembers, per workload, which destinations its proxies use,
// so that its next replica starts with them:
//
//	server --Ask--> Book --Of--> publish --> cache --> server
//	             ^        |
//	             +- peer -+ (Learn, News)
//
// # When a destination is forgotten
//
// An Envoy never forgets a name that it has asked for, and meshd cannot see
// which connections it has: one that was started with a destination, or was
// given it because another replica of its workload asked, uses it without ever
// asking (its listener sends connections straight to the routes), perhaps on a
// connection that is weeks old. Taking the destination from it would answer the
// next request on that connection with 404. So there are two questions with two
// answers:
//
//   - What does a new proxy start with? What a live proxy of the workload
//     subscribes to, and what one has subscribed to within the retention. A
//     destination that proxies use without having asked leaves this start set
//     too. That costs a later proxy one held connection (10 ms): it asks, and
//     the destination is in the start set again.
//   - What does a live proxy keep? Everything that it was ever given, for as
//     long as it lives.
//
// Views are made per key, so a start set that shrinks while proxies live needs
// another key: an epoch of the workload. Proxies that come later sit in the new
// epoch, those that are there stay where they are, and an epoch ends with its
// last proxy. A workload of which no proxy lives needs none: there the set
// itself shrinks. What proxies of an epoch ask for is added to it and to the
// newest. An epoch is made no more often than four times in a retention, so a
// workload has few: never more than proxies, and one where nothing is forgotten.
// None is made while something is put aside that an Envoy has refused: the cache
// remembers that, and the last good version, by key.
//
// When MeshConfig's scope All ends, the proxies that are there keep what it gave
// them in the same way (Keep).
//
// A proxy keeps its seat in its epoch while its pod exists, also through a
// reconnect or a visit to another replica of meshd. One that comes to a meshd
// that does not know it (meshd has restarted) says what it holds; that is taken
// for used at that moment, because nothing else is known.
//
// # Bounds
//
// A proxy is given what its whole workload uses, so the workload needs a bound
// as well as the proxy (server.Limits). It is twice a proxy's: one replica that
// scans ports does not take the others' destinations away, and no sidecar is
// made to hold more than two scanners could ask for. Who comes last is refused,
// until others are forgotten: a proxy that waits need not ask again. One that was
// itself given all that there was room for has no more room as long as it lives;
// those that start later have. What a proxy holds already is let in up to twice that, which is what two
// replicas of meshd can have given it.
package demand
