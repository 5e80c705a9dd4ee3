package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/meshd-io/meshd/pkg/compile"
	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// readTimeout bounds reading everything that a cluster has.
const readTimeout = 2 * time.Minute

// fromCluster reads the objects of the cluster, and changes none.
func fromCluster(ctx context.Context, kube kubeFlags, workload model.Name) (translation, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	config, err := kube.config()
	if err != nil {
		return translation{}, fmt.Errorf("without -f it is a cluster that is read: %w", err)
	}
	snapshot, findings, without, err := crds.ReadCluster(ctx, config)
	if err != nil {
		return translation{}, kubeError(config, "read the cluster", err)
	}
	if slices.Contains(without, "Secret") {
		findings = append(findings, report.Finding{
			Object: report.Object{Kind: "Secret", Name: "*"}, Condition: report.ResolvedRefs, Reason: report.NotFound,
			Message: "the cluster refuses to list Secrets: certificates of Ingresses are left out",
		})
	}
	in := translation{snapshot: snapshot, config: compile.Config{SystemNamespace: kube.namespace}, findings: findings, live: true}
	in.pod, err = livePod(ctx, config, snapshot, workload)
	return in, err
}

// livePod is the pod of this name, or the first of the controller of this name.
func livePod(ctx context.Context, config *rest.Config, snapshot *crds.Snapshot, workload model.Name) (model.Name, error) {
	for _, w := range snapshot.Workloads {
		if w.Namespace == workload.Namespace && w.Name == workload.Name {
			return workload, nil
		}
	}
	api, err := kubernetes.NewForConfig(config)
	if err != nil {
		return workload, err
	}
	pods, err := api.CoreV1().Pods(workload.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return workload, kubeError(config, "list the pods of "+workload.Namespace, err)
	}
	slices.SortFunc(pods.Items, func(a, b corev1.Pod) int { return cmp.Compare(a.Name, b.Name) })
	var owners []string
	first := model.Name{}
	for _, pod := range pods.Items {
		name := model.Name{Namespace: pod.Namespace, Name: pod.Name}
		if pod.Name == workload.Name {
			return name, nil
		}
		owner := ownerOf(&pod)
		if owner == workload.Name && first.Name == "" && pod.DeletionTimestamp == nil {
			first = name
		}
		if owner == "" {
			owner = pod.Name
		}
		if !slices.Contains(owners, owner) {
			owners = append(owners, owner)
		}
	}
	if first.Name != "" {
		return first, nil
	}
	return workload, fmt.Errorf("--workload %s/%s: there is no pod, controller with pods or Workload of that name; there are %v",
		workload.Namespace, workload.Name, owners)
}

// ownerOf names the controller that a user knows: of a Deployment's pod not the ReplicaSet between them.
func ownerOf(pod *corev1.Pod) string {
	owner := metav1.GetControllerOf(pod)
	if owner == nil {
		return ""
	}
	if hash := pod.Labels[appsv1.DefaultDeploymentUniqueLabelKey]; owner.Kind == "ReplicaSet" && hash != "" {
		return strings.TrimSuffix(owner.Name, "-"+hash)
	}
	return owner.Name
}

// dropKeys takes private keys out of a resource's JSON.
func dropKeys(text []byte) ([]byte, error) {
	var resource any
	if err := json.Unmarshal(text, &resource); err != nil {
		return nil, err
	}
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for name, child := range v {
				if name == "privateKey" {
					v[name] = map[string]any{"inlineString": "[left out]"}
					continue
				}
				walk(child)
			}
		case []any:
			for _, child := range v {
				walk(child)
			}
		}
	}
	walk(resource)
	return json.Marshal(resource)
}
