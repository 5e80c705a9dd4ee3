package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
)

// mesh is what is measured: services with two pods and a policy each, and
// clients, which are pods of some workloads.
type mesh struct{ services, clients, workloads int }

const (
	namespace = "shop"
	nodeName  = "bench"
	// cidrs are the networks of the services and the pods.
	cidrs = "10.96.0.0/12,10.244.0.0/16"
)

func clientName(i int) string  { return fmt.Sprintf("client-%d", i) }
func serviceName(i int) string { return fmt.Sprintf("app-%04d", i) }

// account of a workload of clients.
func account(workload int) string { return fmt.Sprintf("clients-%d", workload) }

// workloadOf a client: they take turns.
func (m mesh) workloadOf(client int) int { return client % m.workloads }

// serviceOf gives the service that a resource is of; -1 for none.
func serviceOf(resource string) int {
	_, rest, found := strings.Cut(resource, "app-")
	if !found || len(rest) < 4 {
		return -1
	}
	i, err := strconv.Atoi(rest[:4])
	if err != nil {
		return -1
	}
	return i
}

func serviceAddress(i int) string { return fmt.Sprintf("10.97.%d.%d", i/250, i%250+1) }

func endpointAddress(i, j int) string { return fmt.Sprintf("10.244.%d.%d", j*100+i/250, i%250+1) }

func clientAddress(i int) string { return fmt.Sprintf("10.244.%d.%d", 200+i/250, i%250+1) }

func named(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: namespace, Name: name} }

func podOf(name, app, account, address string) *corev1.Pod {
	always := corev1.ContainerRestartPolicyAlways
	p := &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: named(name),
		Spec: corev1.PodSpec{
			NodeName: nodeName, ServiceAccountName: account,
			InitContainers: []corev1.Container{{Name: "meshd-proxy", Image: "envoy", RestartPolicy: &always}},
			Containers:     []corev1.Container{{Name: "app", Image: "app", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}},
		},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: address, PodIPs: []corev1.PodIP{{IP: address}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
		},
	}
	p.UID, p.Labels = podUID(name), map[string]string{"app": app}
	return p
}

// podUID is a pod's where nobody else gives it one.
func podUID(name string) types.UID { return types.UID("uid-" + name) }

func (m mesh) clientPod(i int) *corev1.Pod {
	a := account(m.workloadOf(i))
	return podOf(clientName(i), a, a, clientAddress(i))
}

// parts of a service, without its endpoints.
func (m mesh) parts(i int) []client.Object {
	name, address := serviceName(i), serviceAddress(i)
	out := []client.Object{
		&corev1.Service{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
			ObjectMeta: named(name),
			Spec: corev1.ServiceSpec{
				ClusterIP: address, ClusterIPs: []string{address}, Selector: map[string]string{"app": name},
				Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromString("http")}},
			},
		},
		&meshv1a1.TrafficPolicy{
			TypeMeta:   metav1.TypeMeta{APIVersion: meshv1a1.GroupVersion.String(), Kind: "TrafficPolicy"},
			ObjectMeta: named(name),
			Spec: meshv1a1.TrafficPolicySpec{
				TargetRefs:      []meshv1a1.TargetRef{{Kind: "Service", Name: name}},
				TrafficSettings: meshv1a1.TrafficSettings{Timeout: &meshv1a1.Timeout{Request: "5s"}},
			},
		},
	}
	for j := range 2 {
		out = append(out, podOf(fmt.Sprintf("%s-%d", name, j), name, name, endpointAddress(i, j)))
	}
	return out
}

// slice is a service's, with these addresses.
func slice(service int, addresses []string) *discoveryv1.EndpointSlice {
	name, port, protocol, portName, ready := serviceName(service), int32(8080), corev1.ProtocolTCP, "http", true
	out := &discoveryv1.EndpointSlice{
		TypeMeta:    metav1.TypeMeta{APIVersion: discoveryv1.SchemeGroupVersion.String(), Kind: "EndpointSlice"},
		ObjectMeta:  named(name + "-1"),
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &portName, Port: &port, Protocol: &protocol}},
	}
	out.Labels = map[string]string{discoveryv1.LabelServiceName: name}
	for _, a := range addresses {
		e := discoveryv1.Endpoint{Addresses: []string{a}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}
		for j := range 2 {
			if a == endpointAddress(service, j) {
				e.TargetRef = &corev1.ObjectReference{Kind: "Pod", Namespace: namespace, Name: fmt.Sprintf("%s-%d", name, j)}
			}
		}
		out.Endpoints = append(out.Endpoints, e)
	}
	return out
}

// meshConfig gives every proxy all destinations, or what its workload has used.
func meshConfig(all bool) *meshv1a1.MeshConfig {
	out := &meshv1a1.MeshConfig{
		TypeMeta:   metav1.TypeMeta{APIVersion: meshv1a1.GroupVersion.String(), Kind: "MeshConfig"},
		ObjectMeta: metav1.ObjectMeta{Name: "default"},
	}
	out.Spec.Scope = "Learned"
	if all {
		out.Spec.Scope = "All"
	}
	return out
}

// used are the services that a workload calls: the first, which all call, and some of its own.
func (m mesh) used(workload, count int) []int {
	count = min(count, m.services)
	out := []int{0}
	for i := range count - 1 {
		out = append(out, 1+(workload*(count-1)+i)%(m.services-1))
	}
	slices.Sort(out)
	return out
}
