// Package peer is how the replicas of meshd know of each other's proxies: each
// serves, to meshd alone, how far its own are with every object and what they
// use (Server), and watches the others (Watcher). The leader adds the reports up
// (Merge), because a status speaks of every live proxy, wherever it is
// connected. Each learns the others' demand, because a workload's next proxy may
// come to any of them.
package peer
