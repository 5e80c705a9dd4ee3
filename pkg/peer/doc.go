// Package peer is how the replicas of meshd know of each other's proxies: each
// serves, to meshd alone, how far its own are with every object (Server); the
// leader watches the others (Watcher) and adds it all up (Merge), because a
// status speaks of every live proxy, wherever it is connected.
package peer
