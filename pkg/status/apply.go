package status

import (
	"context"
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
)

// FieldManager owns what meshd writes of statuses.
const FieldManager = "meshd-status"

// resources are the kinds whose status is written.
func resources(kind string) (schema.GroupVersionResource, bool) {
	own := map[string]string{
		"MeshConfig": "meshconfigs", "CertificateAuthority": "certificateauthorities",
		"PeerAuthentication": "peerauthentications", "RequestAuthentication": "requestauthentications",
		"AuthorizationPolicy": "authorizationpolicies", "TrafficPolicy": "trafficpolicies", "Workload": "workloads",
	}
	if r, ok := own[kind]; ok {
		return meshv1a1.GroupVersion.WithResource(r), true
	}
	switch kind {
	case "Ingress":
		return schema.GroupVersionResource{Group: "networking.k8s.io", Version: "v1", Resource: "ingresses"}, true
	case "HTTPRoute":
		return schema.GroupVersionResource{Group: "gateway.networking.k8s.io", Version: "v1", Resource: "httproutes"}, true
	}
	return schema.GroupVersionResource{}, false
}

// Server is the Applier for an API server.
type Server struct{ client dynamic.Interface }

// NewServer leaves the rate of requests to the Writer.
func NewServer(config *rest.Config) (*Server, error) {
	config = rest.CopyConfig(config)
	config.QPS, config.RateLimiter = -1, nil
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("client for statuses: %w", err)
	}
	return &Server{client: client}, nil
}

// ApplyStatus implements Applier by server-side apply on the status
// subresource. The resourceVersion in it makes the API server refuse (Conflict)
// what is meant for an object that has been deleted and made again; a UID does
// not: a status is taken without looking at it.
func (s *Server) ApplyStatus(ctx context.Context, d Desired) (string, error) {
	resource, ok := resources(d.Kind)
	if !ok {
		return "", fmt.Errorf("%s: its kind has no status of meshd's", d.Object)
	}
	var st map[string]any
	if err := json.Unmarshal([]byte(encode(d.Written)), &st); err != nil {
		return "", fmt.Errorf("%s: %w", d.Object, err)
	}
	o := &unstructured.Unstructured{Object: map[string]any{"status": st}}
	o.SetGroupVersionKind(resource.GroupVersion().WithKind(d.Kind))
	o.SetNamespace(d.Namespace)
	o.SetName(d.Name)
	o.SetResourceVersion(d.ResourceVersion)
	out, err := s.client.Resource(resource).Namespace(d.Namespace).
		ApplyStatus(ctx, d.Name, o, metav1.ApplyOptions{FieldManager: FieldManager, Force: true})
	if err != nil {
		return "", err
	}
	return out.GetResourceVersion(), nil
}
