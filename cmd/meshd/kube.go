package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/go-logr/logr"
	"github.com/spf13/pflag"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/meshd-io/meshd/internal/version"
)

// kubeFlags say which cluster is meant, as kubectl's do.
type kubeFlags struct{ kubeconfig, context, namespace string }

func (f *kubeFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.kubeconfig, "kubeconfig", "", "file that says how to reach the cluster (default: $KUBECONFIG, ~/.kube/config, or in a pod its service account)")
	fs.StringVar(&f.context, "context", "", "context of the kubeconfig")
	fs.StringVarP(&f.namespace, "namespace", "n", "meshd-system", "meshd's own namespace in the cluster")
}

// named reports whether the user has said that a cluster is meant.
func (f kubeFlags) named() bool { return f.kubeconfig != "" || f.context != "" }

// errNoCluster: nothing says where a cluster is.
var errNoCluster = errors.New("no kubeconfig names one (--kubeconfig, $KUBECONFIG, ~/.kube/config), and this is no pod")

// config is how to reach the cluster.
func (f kubeFlags) config() (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = f.kubeconfig
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: f.context}).ClientConfig()
	switch {
	case clientcmd.IsEmptyConfig(err):
		return nil, fmt.Errorf("no cluster: %w", errNoCluster)
	case err != nil:
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	ctrllog.SetLogger(logr.Discard()) // a tool's errors are what it returns
	config.UserAgent = "meshd/" + version.Version
	config.QPS, config.Burst = 50, 100 // one command of one user
	config.WarningHandler = rest.NoWarnings{}
	return config, nil
}

// kubeError says in one line what keeps a command from what it needs of the cluster.
func kubeError(config *rest.Config, doing string, err error) error {
	var wire *url.Error
	switch {
	case err == nil:
		return nil
	case apierrors.IsForbidden(err):
		return &forbidden{fmt.Sprintf("%s: the cluster refuses it: %s: the chart's role meshd-check, and docs/reference/commands.md, say what is needed", doing, oneLine(err))}
	case apierrors.IsUnauthorized(err):
		return fmt.Errorf("%s: the cluster at %s does not know the kubeconfig's user", doing, config.Host)
	case meta.IsNoMatchError(err), apierrors.IsNotFound(err):
		return fmt.Errorf("%s: %s", doing, oneLine(err))
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: the cluster at %s does not answer in time", doing, config.Host)
	case errors.As(err, &wire):
		return fmt.Errorf("%s: the cluster at %s cannot be reached: %s", doing, config.Host, oneLine(wire.Err))
	}
	return fmt.Errorf("%s: %s", doing, oneLine(err))
}

// forbidden: the user's role does not let a command do what it must.
type forbidden struct{ message string }

func (f *forbidden) Error() string { return f.message }

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
