package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"

	"github.com/go-logr/logr"
	"github.com/spf13/pflag"
	"google.golang.org/grpc"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/meshd-io/meshd/pkg/authn"
	"github.com/meshd-io/meshd/pkg/ca"
	"github.com/meshd-io/meshd/pkg/ca/attest"
	"github.com/meshd-io/meshd/pkg/ca/store"
	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/identity"
	"github.com/meshd-io/meshd/pkg/injector"
	"github.com/meshd-io/meshd/pkg/peer"
	"github.com/meshd-io/meshd/pkg/report"
)

// clusterFlags are for a meshd in a cluster.
type clusterFlags struct {
	kubeconfig           string
	webhookAddress       string
	debugAddress         string
	agentImage           string
	proxyImage           string
	webhookConfiguration string
	service              string
	gatewayReplicas      int32
}

func (f *clusterFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.kubeconfig, "kubeconfig", "", "file that says how to reach the cluster; default: the pod's own service account")
	fs.StringVar(&f.webhookAddress, "webhook-address", "[::]:15017", "injection webhook, by TLS")
	fs.StringVar(&f.debugAddress, "debug-address", "127.0.0.1:15016", "state and profiles, in plaintext: loopback only")
	fs.StringVar(&f.agentImage, "agent-image", "", "image of meshd-agent in injected pods")
	fs.StringVar(&f.proxyImage, "proxy-image", "", "image of Envoy in injected pods, where MeshConfig names none")
	fs.StringVar(&f.webhookConfiguration, "webhook-configuration", "meshd-injector", "MutatingWebhookConfiguration whose caBundle is kept")
	fs.StringVar(&f.service, "service", "meshd", "Service by which proxies and the API server reach meshd")
	fs.Int32Var(&f.gatewayReplicas, "gateway-replicas", 2, "replicas of the Ingresses' gateway, until somebody else scales it")
}

// cluster is the home of a meshd in a cluster.
type cluster struct {
	flags  serveFlags
	log    *slog.Logger
	config *rest.Config
	client kubernetes.Interface
	source *crds.ClusterSource
	// pod is this replica's own.
	pod    string
	offers offered
	keys   *attest.Cluster
	render injector.Bootstrapper
	// watcher knows the other replicas.
	watcher *peer.Watcher

	mu      sync.Mutex
	audited *crds.Snapshot // the last that was audited
	missing []report.Finding
	// anchored are the namespaces whose pods may need the trust anchor.
	anchored []string
}

// newCluster speaks to no API server yet.
func newCluster(f serveFlags, log *slog.Logger) (*cluster, error) {
	// Kubernetes' libraries log into the same lines.
	klog.SetSlogLogger(log)
	ctrllog.SetLogger(logr.FromSlogHandler(log.Handler()))
	config, err := clusterConfig(f.cluster.kubeconfig)
	if err != nil {
		return nil, err
	}
	config.UserAgent = "meshd"
	config.QPS = -1 // client-go's 5 a second would hold up every rollout's token reviews; attest bounds those itself
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	source, err := crds.NewClusterSource(config, crds.ClusterOptions{Log: log})
	if err != nil {
		return nil, err
	}
	pod, err := os.Hostname() // a pod's is its name
	if err != nil {
		return nil, fmt.Errorf("own name: %w", err)
	}
	return &cluster{flags: f, log: log, config: config, client: client, source: source, pod: pod, render: injector.Remember(renderBootstrap)}, nil
}

func clusterConfig(kubeconfig string) (*rest.Config, error) {
	if kubeconfig != "" {
		config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
		if err != nil {
			return nil, fmt.Errorf("--kubeconfig %s: %w", kubeconfig, err)
		}
		return config, nil
	}
	config, err := rest.InClusterConfig()
	if err != nil {
		return nil, fmt.Errorf("serve: this is no pod of a cluster (%w): name files with --config, or a cluster with --kubeconfig", err)
	}
	return config, nil
}

// Open implements home.
func (c *cluster) Open(ctx context.Context, d *daemon, trustDomain string) (ca.Store, authn.Attestor, error) {
	var err error
	if c.offers, err = offers(ctx, c.client); err != nil {
		return nil, nil, err
	}
	if c.keys, err = attest.NewCluster(ctx, c.config, nil, c.log); err != nil {
		return nil, nil, err
	}
	verifier, err := attest.New(attest.Config{
		TrustDomain: trustDomain, Keys: c.keys, Pods: podsOf{d},
	})
	if err != nil {
		return nil, nil, err
	}
	root := store.Secret{Secrets: c.client.CoreV1().Secrets(c.flags.namespace)}
	return root, attest.NewReviewer(verifier, c.client.AuthenticationV1().TokenReviews()), nil
}

// Services implements home.
func (c *cluster) Services(d *daemon, self identity.ID) []func(grpc.ServiceRegistrar) {
	return []func(grpc.ServiceRegistrar){
		peer.NewServer(peer.ServerConfig{
			Self: self, Report: d.state.Report, Changed: d.pipeline.Changed, Demand: d.pipeline.demand, Log: c.log,
		}).Register,
	}
}

// Parts implements home.
func (c *cluster) Parts(ctx context.Context, d *daemon) ([]part, error) {
	webhook, err := c.listenWebhook(ctx, d)
	if err != nil {
		return nil, err
	}
	debug, err := d.listenDebug(ctx, c.flags.cluster.debugAddress)
	if err != nil {
		return nil, err
	}
	if err := c.watchReplicas(d); err != nil {
		return nil, err
	}
	lead, err := c.newLead(d)
	if err != nil {
		return nil, err
	}
	return []part{
		webhook, debug, {"token keys", c.keys.Run}, {"leader", lead.run},
		{"replicas", func(ctx context.Context) error { c.watcher.Run(ctx); return nil }},
	}, nil
}

// injectorConfig is what a snapshot and the flags say of injection.
func (c *cluster) injectorConfig(snapshot *crds.Snapshot) injector.Config {
	config := injectorConfig(snapshot)
	config.Bootstrap = c.render
	f := c.flags
	config.SystemNamespace = f.namespace
	config.Server = f.cluster.service + "." + f.namespace + ".svc:15012"
	config.AgentImage, config.ProxyImage = f.cluster.agentImage, f.cluster.proxyImage
	config.PodCertificates, config.TrustBundles = c.offers.podCertificates, c.offers.trustBundles
	return config
}

// Findings implements home: pods that should carry a sidecar and do not.
func (c *cluster) Findings(d *daemon, snapshot *crds.Snapshot) []report.Finding {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := c.audited
	// All pods are gone through only when one of them has changed: at each change it would cost more than the change.
	if last == nil || !crds.Same(last.Pods, snapshot.Pods) || !crds.Same(last.Namespaces, snapshot.Namespaces) ||
		!crds.Same(last.MeshConfigs, snapshot.MeshConfigs) {
		config := c.injectorConfig(snapshot)
		namespaces := append(injector.Namespaced(snapshot.Pods, snapshot.Namespaces, config), c.flags.namespace)
		slices.Sort(namespaces)
		c.anchored = slices.Compact(namespaces)
		c.missing = injector.Audit(snapshot.Pods, snapshot.Namespaces, config)
		without := 0
		for _, f := range c.missing {
			if f.Reason == report.NoSidecar {
				without++
			}
		}
		d.metrics.Uninjected(without)
	}
	c.audited = snapshot
	return slices.Clone(c.missing)
}
