// Package injector puts the sidecar into a pod: Inject is (Pod, Namespace,
// Config) -> Pod, findings, and pure: no cluster, clock or file. The admission
// webhook and the lab call it alike, so that what runs on one machine is what a
// cluster would run; pkg/gateway builds its pods from the same Parts.
//
//	API server --review--> NewWebhook --> Inject --> patch, warnings or refusal
//	roots, MeshConfig ---> Registration --server-side apply--> MutatingWebhookConfiguration
//	snapshot ------------> Audit --> findings on pods that are outside and should not be
package injector
