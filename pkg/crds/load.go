package crds

import (
	"errors"
	"io/fs"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/report"
)

// Load reads a file, or the *.yaml, *.yml and *.json files of a folder and
// those below it, hidden ones left out, once. Faults of the files are findings;
// the error is for a path that cannot be read at all.
//
// Objects that say no generation have 1. Those that say no creationTimestamp
// are taken to be as old as the youngest one that says it (or of 1970): a
// single reading has no history, and the same files give the same snapshot.
func Load(path string) (*Snapshot, []report.Finding, error) {
	files, err := readFiles(path)
	if err != nil {
		return nil, nil, err
	}
	objects, findings := merge(files, nil, youngest(files))
	return objects.snapshot(), findings, nil
}

// Load is Load of the source's path, for what must be known before Run: a file
// that is still the same then is not decoded again. It may not be called once
// Run has begun.
func (s *FileSource) Load() (*Snapshot, []report.Finding, error) {
	files, err := readFiles(s.path)
	if err != nil {
		return nil, nil, err
	}
	s.loaded = make(map[string]*sourceFile, len(files))
	for _, f := range files {
		s.loaded[f.path] = f
	}
	objects, findings := merge(files, nil, youngest(files))
	return objects.snapshot(), findings, nil
}

func readFiles(path string) ([]*sourceFile, error) {
	paths, err := listFiles(path, nil)
	if err != nil {
		return nil, err
	}
	var files []*sourceFile
	for _, p := range paths {
		f, err := readFile(p, nil)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, err
		default:
			files = append(files, f)
		}
	}
	return files, nil
}

func youngest(files []*sourceFile) time.Time {
	t := time.Unix(0, 0).UTC()
	for _, f := range files {
		for _, d := range f.declarations {
			if d.object != nil && d.object.GetCreationTimestamp().After(t) {
				t = d.object.GetCreationTimestamp().Time
			}
		}
	}
	return t
}

// snapshot sorts the objects into their slices.
func (es entries) snapshot() *Snapshot {
	s := &Snapshot{}
	for _, r := range es.sorted() {
		switch o := r.(type) {
		case *corev1.Namespace:
			s.Namespaces = append(s.Namespaces, o)
		case *corev1.ServiceAccount:
			s.ServiceAccounts = append(s.ServiceAccounts, o)
		case *corev1.Service:
			s.Services = append(s.Services, o)
		case *discoveryv1.EndpointSlice:
			s.EndpointSlices = append(s.EndpointSlices, o)
		case *corev1.Pod:
			s.Pods = append(s.Pods, o)
		case *corev1.Secret:
			s.Secrets = append(s.Secrets, o)
		case *networkingv1.Ingress:
			s.Ingresses = append(s.Ingresses, o)
		case *networkingv1.IngressClass:
			s.IngressClasses = append(s.IngressClasses, o)
		case *gwv1.HTTPRoute:
			s.HTTPRoutes = append(s.HTTPRoutes, o)
		case *corev1.ConfigMap:
			s.ConfigMaps = append(s.ConfigMaps, o)
		default:
			s.addPolicy(r)
			s.addController(r)
		}
	}
	return s
}

func (s *Snapshot) addPolicy(r Resource) {
	switch o := r.(type) {
	case *meshv1a1.MeshConfig:
		s.MeshConfigs = append(s.MeshConfigs, o)
	case *meshv1a1.CertificateAuthority:
		s.CertificateAuthorities = append(s.CertificateAuthorities, o)
	case *meshv1a1.PeerAuthentication:
		s.PeerAuthentications = append(s.PeerAuthentications, o)
	case *meshv1a1.RequestAuthentication:
		s.RequestAuthentications = append(s.RequestAuthentications, o)
	case *meshv1a1.AuthorizationPolicy:
		s.AuthorizationPolicies = append(s.AuthorizationPolicies, o)
	case *meshv1a1.TrafficPolicy:
		s.TrafficPolicies = append(s.TrafficPolicies, o)
	case *meshv1a1.Workload:
		s.Workloads = append(s.Workloads, o)
	}
}

func (s *Snapshot) addController(r Resource) {
	switch o := r.(type) {
	case *appsv1.Deployment:
		s.Deployments = append(s.Deployments, o)
	case *appsv1.StatefulSet:
		s.StatefulSets = append(s.StatefulSets, o)
	case *appsv1.DaemonSet:
		s.DaemonSets = append(s.DaemonSets, o)
	case *appsv1.ReplicaSet:
		s.ReplicaSets = append(s.ReplicaSets, o)
	case *batchv1.Job:
		s.Jobs = append(s.Jobs, o)
	}
}
