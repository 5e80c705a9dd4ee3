package main

import (
	"context"
	"errors"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/check"
	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/injector"
)

const (
	// webhookConfiguration and serviceName are what the chart calls them.
	webhookConfiguration = "meshd-injector"
	serviceName          = "meshd"
	// pageSize of lists that may be long.
	pageSize = 500
)

// gatherer reads what check judges.
type gatherer struct {
	config    *rest.Config
	namespace string
	api       client.Client
	facts     *check.Facts
	out       *check.Cluster
}

func newGatherer(config *rest.Config, namespace string) (*gatherer, error) {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, meshv1a1.AddToScheme, apiextensionsv1.AddToScheme, gwv1.Install} {
		if err := add(s); err != nil {
			return nil, err
		}
	}
	api, err := client.New(config, client.Options{Scheme: s})
	if err != nil {
		return nil, kubeError(config, "reach the cluster", err)
	}
	return &gatherer{config: config, namespace: namespace, api: api}, nil
}

// gather fills in what can be read; of what cannot it notes why. The error is
// for a cluster that does not answer at all.
func (g *gatherer) gather(ctx context.Context, facts *check.Facts) error {
	g.facts, g.out = facts, &check.Cluster{Namespace: g.namespace, Unread: map[check.Reading]string{}}
	facts.Cluster = g.out
	for _, read := range []struct {
		what check.Reading
		how  func(context.Context) error
	}{
		{check.Definitions, g.definitions},
		{check.Deployments, g.deployment},
		{check.Namespaces, g.namespaces},
		{check.Pods, g.pods},
		{check.Webhooks, g.webhook},
		{check.Endpoints, g.endpoints},
		{check.Anchor, g.anchor},
		{check.Policies, g.policies},
		{check.Networks, g.networks},
		{check.States, g.states},
	} {
		err := read.how(ctx)
		var answer apierrors.APIStatus
		switch {
		case err == nil:
		case errors.As(err, &answer) || meta.IsNoMatchError(err) || read.what == check.States:
			g.out.Unread[read.what] = oneLine(err)
		default:
			return kubeError(g.config, "read "+string(read.what), err)
		}
	}
	return nil
}

func (g *gatherer) definitions(ctx context.Context) (err error) {
	if g.out.Wanted, err = crds.Definitions(); err != nil {
		return err
	}
	for _, want := range g.out.Wanted {
		var crd apiextensionsv1.CustomResourceDefinition
		err := g.api.Get(ctx, client.ObjectKey{Name: want.Name}, &crd)
		if client.IgnoreNotFound(err) != nil {
			return err
		}
		if err == nil {
			g.out.Installed = append(g.out.Installed, &crd)
		}
	}
	return nil
}

func (g *gatherer) deployment(ctx context.Context) error {
	selector, err := labels.Parse(controlPlane)
	if err != nil {
		return err
	}
	var list appsv1.DeploymentList
	if err := g.api.List(ctx, &list, client.InNamespace(g.namespace), client.MatchingLabelsSelector{Selector: selector}); err != nil {
		return err
	}
	if len(list.Items) > 0 {
		g.out.Deployment = &list.Items[0]
	}
	return nil
}

func (g *gatherer) namespaces(ctx context.Context) error {
	var list corev1.NamespaceList
	return g.pages(ctx, &list, func() { g.out.Namespaces = appendAll(g.out.Namespaces, list.Items) })
}

func (g *gatherer) pods(ctx context.Context) error {
	var list corev1.PodList
	return g.pages(ctx, &list, func() { g.out.Pods = appendAll(g.out.Pods, list.Items) })
}

func (g *gatherer) webhook(ctx context.Context) error {
	var w admissionregistrationv1.MutatingWebhookConfiguration
	err := g.api.Get(ctx, client.ObjectKey{Name: webhookConfiguration}, &w)
	if err == nil {
		g.out.Webhook = &w
	}
	return client.IgnoreNotFound(err)
}

func (g *gatherer) endpoints(ctx context.Context) error {
	var list discoveryv1.EndpointSliceList
	err := g.api.List(ctx, &list, client.InNamespace(g.namespace), client.MatchingLabels{discoveryv1.LabelServiceName: serviceName})
	g.out.Slices = appendAll(g.out.Slices, list.Items)
	return err
}

func (g *gatherer) anchor(ctx context.Context) error {
	var trust corev1.ConfigMap
	err := g.api.Get(ctx, client.ObjectKey{Namespace: g.namespace, Name: injector.TrustConfigMap}, &trust)
	g.out.Anchor = []byte(trust.Data[injector.TrustKey])
	return client.IgnoreNotFound(err)
}

func (g *gatherer) networks(ctx context.Context) error {
	var ranges networkingv1.ServiceCIDRList
	err := g.api.List(ctx, &ranges)
	if err != nil && !meta.IsNoMatchError(err) && !apierrors.IsNotFound(err) { // before 1.33 the cluster need not know them
		return err
	}
	for _, r := range ranges.Items {
		g.addCIDRs(r.Spec.CIDRs)
	}
	var nodes corev1.NodeList
	return g.pages(ctx, &nodes, func() {
		for _, n := range nodes.Items {
			g.addCIDRs(n.Spec.PodCIDRs)
		}
	})
}

func (g *gatherer) addCIDRs(texts []string) {
	if cidrs, err := prefixes(texts); err == nil { // the API server has seen to it
		g.out.CIDRs = append(g.out.CIDRs, cidrs...)
	}
}

func (g *gatherer) states(ctx context.Context) error {
	replicas, err := askReplicas(ctx, g.config, g.namespace)
	if err != nil {
		return err
	}
	for _, r := range replicas {
		var refused *forbidden
		if errors.As(r.err, &refused) {
			return r.err
		}
		told := check.Replica{Name: r.name, State: r.state}
		if r.err != nil {
			told.Silent = oneLine(r.err)
		}
		g.facts.Replicas = append(g.facts.Replicas, told)
	}
	return nil
}

// pages lists everything of a kind, page by page.
func (g *gatherer) pages(ctx context.Context, list client.ObjectList, take func()) error {
	for next := ""; ; {
		if err := g.api.List(ctx, list, client.Limit(pageSize), client.Continue(next)); err != nil {
			return err
		}
		take()
		next = list.GetContinue()
		list.SetContinue("") // the last page says nothing of it
		if err := meta.SetList(list, nil); err != nil || next == "" {
			return err
		}
	}
}

func appendAll[T any](to []*T, items []T) []*T {
	for i := range items {
		item := items[i]
		to = append(to, &item)
	}
	return to
}

// leafLifetime that a CertificateAuthority says; the API server fills in the default.
func leafLifetime(authority *meshv1a1.CertificateAuthority) (time.Duration, bool) {
	d, err := time.ParseDuration(string(authority.Spec.Lifetimes.Leaf))
	return d, err == nil && d > 0
}
