package crds

import (
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	sigsjson "sigs.k8s.io/json"

	"github.com/meshd-io/meshd/pkg/report"
)

// coreKinds are the kinds of Kubernetes that meshd reads.
func coreKinds(scheme *runtime.Scheme) map[schema.GroupVersionKind]kind {
	subdomain := apivalidation.NameIsDNSSubdomain
	label := apivalidation.NameIsDNSLabel
	return map[schema.GroupVersionKind]kind{
		corev1.SchemeGroupVersion.WithKind("Namespace"):      core(scheme, true, label, nothing[*corev1.Namespace], valid[*corev1.Namespace]),
		corev1.SchemeGroupVersion.WithKind("ServiceAccount"): core(scheme, false, subdomain, nothing[*corev1.ServiceAccount], valid[*corev1.ServiceAccount]),
		corev1.SchemeGroupVersion.WithKind("Service"):        core(scheme, false, apivalidation.NameIsDNS1035Label, defaultService, validateService),
		corev1.SchemeGroupVersion.WithKind("Pod"):            core(scheme, false, subdomain, defaultPod, validatePod),
		corev1.SchemeGroupVersion.WithKind("Secret"):         core(scheme, false, subdomain, defaultSecret, valid[*corev1.Secret]),
		corev1.SchemeGroupVersion.WithKind("ConfigMap"):      core(scheme, false, subdomain, nothing[*corev1.ConfigMap], valid[*corev1.ConfigMap]),

		discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"): core(scheme, false, subdomain, defaultEndpointSlice, validateEndpointSlice),

		networkingv1.SchemeGroupVersion.WithKind("Ingress"):      core(scheme, false, subdomain, nothing[*networkingv1.Ingress], validateIngress),
		networkingv1.SchemeGroupVersion.WithKind("IngressClass"): core(scheme, true, subdomain, nothing[*networkingv1.IngressClass], validateIngressClass),

		appsv1.SchemeGroupVersion.WithKind("Deployment"):  core(scheme, false, subdomain, defaultDeployment, validateDeployment),
		appsv1.SchemeGroupVersion.WithKind("StatefulSet"): core(scheme, false, subdomain, defaultStatefulSet, validateStatefulSet),
		appsv1.SchemeGroupVersion.WithKind("DaemonSet"):   core(scheme, false, subdomain, defaultDaemonSet, validateDaemonSet),
		appsv1.SchemeGroupVersion.WithKind("ReplicaSet"):  core(scheme, false, subdomain, defaultReplicaSet, validateReplicaSet),
		batchv1.SchemeGroupVersion.WithKind("Job"):        core(scheme, false, subdomain, defaultJob, validateJob),
	}
}

func nothing[T Resource](T)               {}
func valid[T Resource](T) field.ErrorList { return nil }

// core decodes strictly into the type, fills in defaults and validates what
// meshd builds on. It is not the whole of an API server's validation.
func core[T Resource](scheme *runtime.Scheme, clusterScoped bool, name apivalidation.ValidateNameFunc,
	defaults func(T), validate func(T) field.ErrorList,
) kind {
	decode := func(f *finder, gvk schema.GroupVersionKind, raw []byte) Resource {
		obj, err := scheme.New(gvk)
		if err != nil {
			f.add(report.UnknownKind, "kind", err.Error())
			return nil
		}
		strict, err := sigsjson.UnmarshalStrict(raw, obj)
		if err != nil || len(strict) > 0 {
			f.addDecoding(raw, strict, err)
			return nil
		}
		typed, ok := obj.(T)
		if !ok {
			f.add(report.UnknownKind, "kind", "no type is known for the kind")
			return nil
		}
		typed.SetNamespace(f.ref.Namespace)
		defaults(typed)
		f.addErrors(apivalidation.ValidateObjectMetaAccessor(typed, !clusterScoped, name, field.NewPath("metadata")))
		f.addErrors(validate(typed))
		return typed
	}
	return kind{clusterScoped: clusterScoped, decode: decode}
}
