package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/meshd-io/meshd/pkg/console"
)

const (
	// debugPort is where a meshd in a pod serves its state, on loopback only.
	debugPort = 15016
	// askTimeout bounds what one replica may take to answer.
	askTimeout = 30 * time.Second
	// controlPlane are the labels of meshd's pods.
	controlPlane = "app.kubernetes.io/name=meshd,app.kubernetes.io/component=control-plane"
)

// replicaState is what one meshd tells, or why it tells nothing.
type replicaState struct {
	name  string
	state console.State
	err   error
}

// askReplicas asks every running pod of meshd in a namespace, sorted by name.
// The error is for a cluster that does not say which there are.
func askReplicas(ctx context.Context, config *rest.Config, namespace string) ([]replicaState, error) {
	api, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	pods, err := api.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: controlPlane})
	if err != nil {
		return nil, kubeError(config, "list meshd's pods in "+namespace, err)
	}
	var out []replicaState
	for _, pod := range pods.Items {
		if pod.Status.Phase == corev1.PodRunning && pod.DeletionTimestamp == nil {
			out = append(out, replicaState{name: pod.Name})
		}
	}
	slices.SortFunc(out, func(a, b replicaState) int { return cmp.Compare(a.name, b.name) })
	var asking sync.WaitGroup
	for i := range out {
		asking.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, askTimeout)
			defer cancel()
			r := &out[i]
			client := console.NewClientOver("port "+fmt.Sprint(debugPort)+" of pod "+namespace+"/"+r.name, dialPod(config, namespace, r.name, debugPort))
			if r.state, r.err = client.State(ctx, 0); r.err != nil {
				r.err = kubeError(config, "ask "+r.name, r.err)
			}
		})
	}
	asking.Wait()
	return out, nil
}

// proxyRow is a proxy and the replica that it is connected to; "" is the only one.
type proxyRow struct {
	console.Proxy
	Replica string `json:"replica,omitempty"`
}

// proxiesOf are the proxies of all replicas, sorted by name. One that has just
// moved is at two of them: the newer connection counts.
func proxiesOf(replicas []replicaState) []proxyRow {
	newest := map[string]proxyRow{}
	for _, r := range replicas {
		for _, p := range r.state.Proxies {
			if known, there := newest[p.Name]; !there || p.Connected.After(known.Connected) {
				newest[p.Name] = proxyRow{p, r.name}
			}
		}
	}
	out := make([]proxyRow, 0, len(newest))
	for _, row := range newest {
		out = append(out, row)
	}
	slices.SortFunc(out, func(a, b proxyRow) int { return cmp.Compare(a.Name, b.Name) })
	return out
}
