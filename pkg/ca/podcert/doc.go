// Package podcert signs for pods that hold no agent: it is the signer
// meshd.io/workload of PodCertificateRequests (certificates.k8s.io/v1,
// Kubernetes 1.37, KEP-4317). A kubelet makes key and request, meshd answers in
// its status, and the kubelet writes key and chain into the pod.
//
//	request --> judge (the pod as it is now) --> sign --> status
//
// Relied on, because the API server checks it: the CSR is signed by its own key
// (request validation), and a node makes requests only for pods that are bound
// to it, with their account (admission plugin NodeRestriction). Kubernetes gives
// nobody but nodes the right to create requests: who is given it in a namespace
// can get a certificate of any pod there that mounts one. What can be read, the
// pod with its account, node and volume, is read again here all the same.
package podcert
