package server

import (
	"errors"
	"fmt"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshd-io/meshd/pkg/authn"
	"github.com/meshd-io/meshd/pkg/xds/acks"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

// authenticate finds who is behind a stream. The identity is the certificate's
// and nobody else's: what the node says may only agree with it.
func (s *Server) authenticate(peer authn.Peer, node *corev3.Node) (scope.Node, acks.Proxy, error) {
	if peer.Identity.IsZero() {
		return scope.Node{}, acks.Proxy{}, status.Error(codes.Unauthenticated, "a certificate of the mesh is needed")
	}
	who := acks.Proxy{Identity: peer.Identity.String(), CertificateExpires: peer.NotAfter}
	kind, name, err := s.nodeName(node)
	if err != nil {
		return scope.Node{}, who, s.refuse(who, codes.InvalidArgument, err.Error())
	}
	who.Kind, who.Name = kind, name
	ns, _, _ := strings.Cut(name, "/")
	if ns != peer.Identity.Namespace() {
		return scope.Node{}, who, s.refuse(who, codes.PermissionDenied, fmt.Sprintf(
			"node %q is of another namespace than its certificate, %s", node.GetId(), peer.Identity))
	}
	if want := peer.Identity.Namespace() + "/" + peer.Identity.ServiceAccount(); node.GetCluster() != want {
		return scope.Node{}, who, s.refuse(who, codes.PermissionDenied, fmt.Sprintf(
			"node cluster %q is not the service account of its certificate, %s", node.GetCluster(), peer.Identity))
	}
	n := scope.Node{ID: node.GetId(), Identity: peer.Identity}
	key, err := s.keyer.KeyFor(n)
	switch {
	case errors.Is(err, scope.ErrMismatch):
		return n, who, s.refuse(who, codes.PermissionDenied, err.Error())
	case err != nil: // the pod may be known in a moment: Envoy tries again
		return n, who, s.refuse(who, codes.Unavailable, err.Error())
	case key.Namespace != peer.Identity.Namespace() || key.ServiceAccount != peer.Identity.ServiceAccount():
		return n, who, s.refuse(who, codes.PermissionDenied, fmt.Sprintf("node %q is not of %s", node.GetId(), peer.Identity))
	}
	who.Key = key
	return n, who, nil
}

// refuse writes the audit event, which the Recorder is to log.
func (s *Server) refuse(who acks.Proxy, code codes.Code, why string) error {
	s.recorder.Record(acks.Event{Kind: acks.Refused, At: time.Now(), Proxy: who, Message: code.String() + ": " + why})
	return status.Error(code, why)
}

// nodeName takes KIND~NAMESPACE/POD.
func (s *Server) nodeName(node *corev3.Node) (kind, name string, err error) {
	id := node.GetId()
	if id == "" {
		return "", "", errors.New("the first request of a stream must say its node")
	}
	if len(id) > s.limits.NameBytes || len(node.GetCluster()) > s.limits.NameBytes {
		return "", "", errors.New("the node's id or cluster is too long")
	}
	kind, name, ok := strings.Cut(id, "~")
	ns, pod, hasSlash := strings.Cut(name, "/")
	if !ok || (kind != "sidecar" && kind != gatewayKind) || !hasSlash || ns == "" || pod == "" || strings.Contains(pod, "/") {
		return "", "", fmt.Errorf("node id %q is not sidecar~NAMESPACE/POD or gateway~NAMESPACE/POD", id)
	}
	return kind, name, nil
}

const gatewayKind = "gateway"
