package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is meshd.io/v1alpha1.
var GroupVersion = schema.GroupVersion{Group: "meshd.io", Version: "v1alpha1"}

// AddToScheme registers every kind of this group and version.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion,
		&MeshConfig{}, &MeshConfigList{},
		&CertificateAuthority{}, &CertificateAuthorityList{},
		&PeerAuthentication{}, &PeerAuthenticationList{},
		&RequestAuthentication{}, &RequestAuthenticationList{},
		&AuthorizationPolicy{}, &AuthorizationPolicyList{},
		&TrafficPolicy{}, &TrafficPolicyList{},
		&Workload{}, &WorkloadList{},
	)
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
