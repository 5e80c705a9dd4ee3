package main

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/check"
	"github.com/meshd-io/meshd/pkg/report"
	"github.com/meshd-io/meshd/pkg/status"
)

// policies reads the objects of meshd's own kinds with their conditions.
func (g *gatherer) policies(ctx context.Context) error {
	var configs meshv1a1.MeshConfigList
	if err := g.api.List(ctx, &configs); err != nil {
		return err
	}
	for i := range configs.Items {
		o := &configs.Items[i]
		if o.Name == "default" {
			g.out.MeshConfig = o
		}
		g.addObject("MeshConfig", o, o.Status.ObservedGeneration, o.Status.Conditions)
	}
	var authorities meshv1a1.CertificateAuthorityList
	if err := g.api.List(ctx, &authorities); err != nil {
		return err
	}
	for i := range authorities.Items {
		o := &authorities.Items[i]
		if leaf, ok := leafLifetime(o); ok && o.Name == "default" {
			g.facts.Leaf = leaf
		}
		g.addObject("CertificateAuthority", o, o.Status.ObservedGeneration, o.Status.Conditions)
	}
	for _, read := range []func(context.Context) error{
		g.peerAuthentications, g.requestAuthentications, g.authorizationPolicies, g.trafficPolicies, g.workloads, g.httpRoutes,
	} {
		if err := read(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (g *gatherer) peerAuthentications(ctx context.Context) error {
	var list meshv1a1.PeerAuthenticationList
	return g.pages(ctx, &list, func() {
		for _, o := range list.Items {
			g.addPolicy("PeerAuthentication", &o, o.Status)
		}
	})
}

func (g *gatherer) requestAuthentications(ctx context.Context) error {
	var list meshv1a1.RequestAuthenticationList
	return g.pages(ctx, &list, func() {
		for _, o := range list.Items {
			g.addPolicy("RequestAuthentication", &o, o.Status)
		}
	})
}

func (g *gatherer) authorizationPolicies(ctx context.Context) error {
	var list meshv1a1.AuthorizationPolicyList
	return g.pages(ctx, &list, func() {
		for _, o := range list.Items {
			g.addPolicy("AuthorizationPolicy", &o, o.Status)
		}
	})
}

func (g *gatherer) trafficPolicies(ctx context.Context) error {
	var list meshv1a1.TrafficPolicyList
	return g.pages(ctx, &list, func() {
		for _, o := range list.Items {
			g.addPolicy("TrafficPolicy", &o, o.Status)
		}
	})
}

func (g *gatherer) workloads(ctx context.Context) error {
	var list meshv1a1.WorkloadList
	return g.pages(ctx, &list, func() {
		for _, o := range list.Items {
			g.addPolicy("Workload", &o, o.Status)
		}
	})
}

// httpRoutes are those with a parent of the mesh's, where the cluster knows the kind.
func (g *gatherer) httpRoutes(ctx context.Context) error {
	var list gwv1.HTTPRouteList
	err := g.pages(ctx, &list, func() {
		for _, o := range list.Items {
			if observed, conditions, ours := status.OfRoute(&o); ours {
				g.addObject("HTTPRoute", &o, observed, conditions)
			}
		}
	})
	if meta.IsNoMatchError(err) || apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func (g *gatherer) addPolicy(kind string, o metav1.Object, status meshv1a1.PolicyStatus) {
	g.addObject(kind, o, status.ObservedGeneration, status.Conditions)
}

func (g *gatherer) addObject(kind string, o metav1.Object, observed int64, conditions []metav1.Condition) {
	g.facts.Objects = append(g.facts.Objects, check.Object{
		Object:     report.Object{Kind: kind, Namespace: o.GetNamespace(), Name: o.GetName()},
		Generation: o.GetGeneration(), Observed: observed, Conditions: conditions,
	})
}
