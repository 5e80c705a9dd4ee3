package main

import (
	"cmp"
	"net"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/injector"
	"github.com/meshd-io/meshd/pkg/peer"
)

// replicas are the other ready pods of meshd, by their labels, and where their gRPC is.
func replicas(snapshot *crds.Snapshot, namespace, ownPod, port string) []peer.Peer {
	var out []peer.Peer
	// All pods, which are sorted by namespace, would be gone through at each change of anything.
	first, _ := slices.BinarySearchFunc(snapshot.Pods, namespace, func(pod *corev1.Pod, ns string) int { return cmp.Compare(pod.Namespace, ns) })
	for _, pod := range snapshot.Pods[first:] {
		if pod.Namespace != namespace {
			break
		}
		if pod.Name == ownPod || !isMeshd(pod) || !ready(pod) || pod.DeletionTimestamp != nil {
			continue
		}
		if ip, err := netip.ParseAddr(pod.Status.PodIP); err == nil {
			out = append(out, peer.Peer{Name: pod.Name, Address: net.JoinHostPort(ip.String(), port)})
		}
	}
	return out
}

func isMeshd(pod *corev1.Pod) bool {
	return pod.Labels["app.kubernetes.io/name"] == "meshd" && pod.Labels["app.kubernetes.io/component"] == "control-plane" &&
		pod.Spec.ServiceAccountName == "meshd"
}

// hasReadyProxy reports whether a pod carries a proxy that should be connected.
func hasReadyProxy(pod *corev1.Pod) bool {
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for _, c := range containers {
			if c.Name == injector.ProxyContainer {
				return ready(pod) && pod.DeletionTimestamp == nil
			}
		}
	}
	return false
}

func ready(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
