package main

import (
	"errors"
	"log/slog"

	"github.com/spf13/pflag"

	"github.com/meshd-io/meshd/pkg/authn"
	"github.com/meshd-io/meshd/pkg/ca"
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
}

func (f *clusterFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.kubeconfig, "kubeconfig", "", "file that says how to reach the cluster; default: the pod's own service account")
	fs.StringVar(&f.webhookAddress, "webhook-address", "[::]:15017", "injection webhook, by TLS")
	fs.StringVar(&f.debugAddress, "debug-address", "127.0.0.1:15016", "state and profiles, in plaintext: loopback only")
	fs.StringVar(&f.agentImage, "agent-image", "", "image of meshd-agent in injected pods")
	fs.StringVar(&f.proxyImage, "proxy-image", "", "image of Envoy in injected pods, where MeshConfig names none")
	fs.StringVar(&f.webhookConfiguration, "webhook-configuration", "meshd-injector", "MutatingWebhookConfiguration whose caBundle is kept")
	fs.StringVar(&f.service, "service", "meshd", "Service by which proxies and the API server reach meshd")
}

// cluster is the home of a meshd in a cluster.
type cluster struct {
	source source
}

func newCluster(serveFlags, *slog.Logger) (*cluster, error) {
	return nil, errors.New("serve: --config DIR is needed: this version reads from files only")
}

// Open implements home.
func (*cluster) Open(*daemon, string) (ca.Store, authn.Attestor, error) { return nil, nil, nil }

// Parts implements home.
func (*cluster) Parts(*daemon) ([]part, error) { return nil, nil }
