package main

import (
	"cmp"
	"context"
	"net"
	"net/http"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/injector"
	"github.com/meshd-io/meshd/pkg/telemetry"
)

// reviewTimeout bounds the reading of one review and its answer; the API server waits for 5 s.
const reviewTimeout = 10 * time.Second

// listenWebhook is where the API server asks about pods.
func (c *cluster) listenWebhook(ctx context.Context, d *daemon) (part, error) {
	name := c.flags.cluster.service + "." + c.flags.namespace + ".svc"
	config, err := d.authority.WebhookTLS(name, name+".cluster.local")
	if err != nil {
		return part{}, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.flags.cluster.webhookAddress)
	if err != nil {
		return part{}, err
	}
	handler := injector.NewWebhook(injector.WebhookConfig{
		Config: func() (injector.Config, bool) {
			snapshot := d.snapshot()
			if snapshot == nil {
				return injector.Config{}, false
			}
			return c.injectorConfig(snapshot), true
		},
		Namespaces: namespaces{d.snapshot},
		Fetch: func(ctx context.Context, name string) (*corev1.Namespace, error) {
			return c.client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
		},
		Reviews: reviews{d.metrics}, Log: c.log,
	})
	return serveHTTP("webhook", l, &http.Server{
		Handler: handler, TLSConfig: config, ReadTimeout: reviewTimeout, WriteTimeout: reviewTimeout, IdleTimeout: 2 * time.Minute,
	}), nil
}

// namespaces implements injector.Namespaces on the newest snapshot.
type namespaces struct{ snapshot func() *crds.Snapshot }

// Namespace implements injector.Namespaces.
func (n namespaces) Namespace(name string) (*corev1.Namespace, bool) {
	s := n.snapshot()
	if s == nil {
		return nil, false
	}
	i, found := slices.BinarySearchFunc(s.Namespaces, name, func(ns *corev1.Namespace, name string) int { return cmp.Compare(ns.Name, name) })
	if !found {
		return nil, false
	}
	return s.Namespaces[i], true
}

// reviews implements injector.Reviews.
type reviews struct{ metrics *telemetry.Metrics }

// Reviewed implements injector.Reviews.
func (r reviews) Reviewed(outcome injector.Outcome, took time.Duration) {
	r.metrics.Reviewed(string(outcome), took)
}
