package scope

import (
	"errors"
	"fmt"
	"strings"

	"github.com/meshd-io/meshd/pkg/model"
)

var (
	// ErrUnknownPod tells that the mesh does not know the pod (yet); the proxy may try again.
	ErrUnknownPod = errors.New("unknown pod")
	// ErrMismatch tells that the node claims to be something else than it has proven; it is refused.
	ErrMismatch = errors.New("node does not match its certificate")
)

const (
	sidecarPrefix = "sidecar~"
	gatewayPrefix = "gateway~"
)

// KeyFor is the only reader of a Node. The node's pod must exist, be of the
// kind that the node claims, and run as the service account that its
// certificate proves.
func KeyFor(mesh *model.Mesh, node Node) (Key, error) {
	kind, name, err := parseNodeID(node.ID)
	if err != nil {
		return Key{}, err
	}
	if node.Identity.IsZero() || node.Identity.TrustDomain() != mesh.Settings.TrustDomain {
		return Key{}, fmt.Errorf("%w: %q is not of trust domain %q", ErrMismatch, node.Identity, mesh.Settings.TrustDomain)
	}
	if node.Identity.Namespace() != name.Namespace {
		return Key{}, fmt.Errorf("%w: %q is not of namespace %q", ErrMismatch, node.Identity, name.Namespace)
	}
	pod, found := mesh.Pods.Get(name)
	if !found || !pod.InMesh {
		return Key{}, fmt.Errorf("%w: %s", ErrUnknownPod, name)
	}
	if pod.ServiceAccount != node.Identity.ServiceAccount() {
		return Key{}, fmt.Errorf("%w: pod %s runs as %q, the certificate is of %q",
			ErrMismatch, name, pod.ServiceAccount, node.Identity)
	}
	if pod.Key.Kind != kind {
		return Key{}, fmt.Errorf("%w: pod %s is of another kind than %q", ErrMismatch, name, node.ID)
	}
	return pod.Key, nil
}

// parseNodeID takes sidecar~NAMESPACE/POD or gateway~NAMESPACE/POD.
func parseNodeID(id string) (model.WorkloadKind, model.Name, error) {
	kind, rest := model.Sidecar, ""
	switch {
	case strings.HasPrefix(id, sidecarPrefix):
		rest = strings.TrimPrefix(id, sidecarPrefix)
	case strings.HasPrefix(id, gatewayPrefix):
		kind, rest = model.GatewayProxy, strings.TrimPrefix(id, gatewayPrefix)
	}
	ns, name, found := strings.Cut(rest, "/")
	if !found || ns == "" || name == "" || strings.Contains(name, "/") {
		return 0, model.Name{}, fmt.Errorf("%w: node id %q is not sidecar~NAMESPACE/POD or gateway~NAMESPACE/POD", ErrMismatch, id)
	}
	return kind, model.Name{Namespace: ns, Name: name}, nil
}

// PodOf is the pod of a node that has been given a key; nil where it is gone.
func PodOf(mesh *model.Mesh, nodeID string) *model.Pod {
	_, name, err := parseNodeID(nodeID)
	if err != nil {
		return nil
	}
	pod, _ := mesh.Pods.Get(name)
	return pod
}
