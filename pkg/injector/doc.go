// Package injector puts the sidecar into a pod: (Pod, Namespace, Config) ->
// Pod, findings. It is pure: no cluster, clock or file. The admission webhook
// and the lab call the same function, so that what runs on one machine is what
// a cluster would run. pkg/gateway builds its pods from the same containers.
package injector
