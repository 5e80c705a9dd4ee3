// Package sandbox runs the lab's processes: it starts the lab's daemon in
// namespaces of its own, and in the daemon it starts containers.
//
//	meshd lab up                    (host)
//	  Start --- clone(user?, pid, mount, net, ipc, uts) --> PID 1: reaps, nothing else
//	                                                          +-- daemon: Options.Args
//	                                                                Open --> Sandbox
//	                                                                +-- container: own pid, mount, uts, ipc
//	                                                                |   namespaces, its pod's network
//	                                                                +-- ...
//
// Everything hangs on PID 1: when it dies, by whatever cause, the kernel kills
// every process of its PID namespace, and mounts, network namespaces, links
// and rules go with their last process. PID 1 ends when the daemon ends.
//
// A container sees the machine's files through an overlay whose upper layer is
// in the lab's own tmpfs: it may write anywhere it has the permission to, and
// nothing of it reaches the machine's disk or another container. Volumes are
// bind mounts.
//
// Without root the lab is in a user namespace: uid 0 is the caller, the others
// are from the caller's ranges in /etc/subuid. Everything works but what needs
// the machine's own root: there is no host link, and files that belong to the
// machine's root can be read, not changed or removed, even in the overlay (new
// ones beside them can be made).
//
// Every program that calls Start or Open must call RunChild first thing in its
// main (tests: in TestMain): PID 1 and the set-up of a container are this same
// binary, executed again.
package sandbox
