package gateway

import (
	"context"
	"fmt"
	"slices"
	"sync"

	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"
)

// kind is one of the kinds that a gateway is made of.
type kind struct {
	Kind     string
	Resource schema.GroupVersionResource
}

func kinds() []kind {
	return []kind{
		{"ServiceAccount", schema.GroupVersionResource{Version: "v1", Resource: "serviceaccounts"}},
		{"Service", schema.GroupVersionResource{Version: "v1", Resource: "services"}},
		{"PodDisruptionBudget", schema.GroupVersionResource{Group: "policy", Version: "v1", Resource: "poddisruptionbudgets"}},
		{"Deployment", schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}},
	}
}

func resource(name string) schema.GroupVersionResource {
	all := kinds()
	return all[slices.IndexFunc(all, func(k kind) bool { return k.Kind == name })].Resource
}

// objects are those of the Ingress gateway as they are applied: without status,
// and without the replicas, which others may own.
func objects(w Wanted, namespace string) ([]*unstructured.Unstructured, error) {
	cfg := w.Config
	cfg.SystemNamespace = namespace
	deployment, service, account, err := ForIngress(cfg)
	if err != nil {
		return nil, err
	}
	deployment.Spec.Replicas = nil
	out := make([]*unstructured.Unstructured, 0, 4)
	for _, o := range []any{account, service, disruption(namespace), deployment} {
		fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
		if err != nil {
			return nil, fmt.Errorf("gateway %s: %w", IngressName, err)
		}
		delete(fields, "status")
		prune(fields)
		made := &unstructured.Unstructured{Object: fields}
		if w.Owner != nil {
			made.SetOwnerReferences([]metav1.OwnerReference{*w.Owner})
		}
		out = append(out, made)
	}
	return out, nil
}

// prune takes away what means nothing, such as creationTimestamp: null.
func prune(fields map[string]any) {
	for k, v := range fields {
		switch v := v.(type) {
		case nil:
			delete(fields, k)
		case map[string]any:
			prune(v)
		case []any:
			for _, e := range v {
				if m, ok := e.(map[string]any); ok {
					prune(m)
				}
			}
		}
	}
}

// disruption lets nodes be drained one pod at a time.
func disruption(namespace string) *policyv1.PodDisruptionBudget {
	one, always := intstr.FromInt32(1), policyv1.AlwaysAllow
	labels := map[string]string{Label: Ingress}
	return &policyv1.PodDisruptionBudget{
		TypeMeta:   metav1.TypeMeta{APIVersion: "policy/v1", Kind: "PodDisruptionBudget"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: IngressName, Labels: labels},
		Spec: policyv1.PodDisruptionBudgetSpec{
			MaxUnavailable: &one, Selector: &metav1.LabelSelector{MatchLabels: labels}, UnhealthyPodEvictionPolicy: &always,
		},
	}
}

// live knows the gateways' objects as the API server has them.
type live struct {
	informers map[string]cache.SharedIndexInformer // by kind
	key       string
	// moved has a value when something has changed.
	moved chan struct{}

	done    chan struct{}
	running sync.WaitGroup
}

func newLive(client dynamic.Interface, namespace string) *live {
	l := &live{
		informers: map[string]cache.SharedIndexInformer{}, key: namespace + "/" + IngressName,
		moved: make(chan struct{}, 1), done: make(chan struct{}),
	}
	labelled := func(o *metav1.ListOptions) { o.LabelSelector = Label + "=" + Ingress }
	for _, k := range kinds() {
		l.informers[k.Kind] = dynamicinformer.NewFilteredDynamicInformer(client, k.Resource, namespace, 0, cache.Indexers{}, labelled).Informer()
	}
	return l
}

// start returns when everything is known, or false when ctx has ended before.
func (l *live) start(ctx context.Context) bool {
	tell := func() {
		select {
		case l.moved <- struct{}{}:
		default:
		}
	}
	var synced []cache.InformerSynced
	for _, i := range l.informers {
		_, _ = i.AddEventHandler(cache.ResourceEventHandlerFuncs{ // fails only when it has been stopped
			AddFunc: func(any) { tell() }, UpdateFunc: func(any, any) { tell() }, DeleteFunc: func(any) { tell() },
		})
		l.running.Go(func() { i.Run(l.done) })
		synced = append(synced, i.HasSynced)
	}
	return cache.WaitForCacheSync(ctx.Done(), synced...)
}

// stop may be called once.
func (l *live) stop() {
	close(l.done)
	l.running.Wait()
}

// get is nil for what is not there.
func (l *live) get(kind string) *unstructured.Unstructured {
	o, ok, err := l.informers[kind].GetStore().GetByKey(l.key)
	if err != nil || !ok {
		return nil
	}
	out, _ := o.(*unstructured.Unstructured)
	return out
}
