package crds

import (
	"fmt"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/meshd-io/meshd/pkg/crds/upstream"
)

// upstreamKinds are other projects' kinds that have CustomResourceDefinitions:
// HTTPRoute of the Gateway API. Most meshes have none: its schema is not read
// before the first object.
func upstreamKinds(scheme *runtime.Scheme) map[schema.GroupVersionKind]kind {
	version := schema.GroupVersion(gwv1.GroupVersion)
	scheme.AddKnownTypes(version, &gwv1.HTTPRoute{}, &gwv1.HTTPRouteList{})
	metav1.AddToGroupVersion(scheme, version)
	return map[schema.GroupVersionKind]kind{
		version.WithKind("HTTPRoute"): ruled(scheme, false, func() (*apiextensionsv1.JSONSchemaProps, error) {
			crds, err := UpstreamDefinitions()
			if err != nil {
				return nil, err
			}
			if len(crds) != 1 {
				return nil, fmt.Errorf("%d definitions are embedded, want HTTPRoute's", len(crds))
			}
			return crds[0].Spec.Versions[0].Schema.OpenAPIV3Schema, nil
		}),
	}
}

// UpstreamDefinitions are the CustomResourceDefinitions of other projects' kinds
// that meshd reads: what files are held to. A cluster's own may be of other
// versions, and of the standard channel.
func UpstreamDefinitions() ([]*apiextensionsv1.CustomResourceDefinition, error) {
	return definitions(upstream.FS())
}
