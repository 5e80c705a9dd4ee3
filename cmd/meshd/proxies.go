package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/meshd-io/meshd/pkg/console"
	"github.com/meshd-io/meshd/pkg/lab"
)

// DefaultAdminSocket is where a meshd serves the operator, and where the tools look for it.
const DefaultAdminSocket = "/run/meshd-admin/admin.sock"

// whichMesh says how a command finds the mesh that is meant.
const whichMesh = `Which mesh: the one whose --admin-socket is named; or the cluster, where
--kubeconfig or --context is given; or this machine's lab, or a meshd on this
machine (` + DefaultAdminSocket + `), where one is up; or the cluster of
$KUBECONFIG, ~/.kube/config or, in a pod, the pod's own.`

// meshFlags say which mesh is meant.
type meshFlags struct {
	socket string
	kube   kubeFlags
}

func (f *meshFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.socket, "admin-socket", "", "admin socket of a meshd that serves from files")
	f.kube.register(fs)
}

// local is the admin socket that is meant, or "" for a cluster.
func (f meshFlags) local() string {
	if f.socket != "" || f.kube.named() {
		return f.socket
	}
	for _, socket := range []string{lab.AdminSocket(defaultLabDir()), DefaultAdminSocket} {
		if exists(socket) {
			return socket
		}
	}
	return ""
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// ask asks every meshd of the mesh that is meant.
func (f meshFlags) ask(ctx context.Context) ([]replicaState, error) {
	if socket := f.local(); socket != "" {
		state, err := console.NewClient(socket).State(ctx, 0)
		return []replicaState{{state: state}}, err
	}
	config, err := f.kube.config()
	if err != nil {
		return nil, noMesh(err)
	}
	replicas, err := askReplicas(ctx, config, f.kube.namespace)
	if err == nil && len(replicas) == 0 {
		err = fmt.Errorf("no pod of meshd runs in namespace %s of the cluster at %s", f.kube.namespace, config.Host)
	}
	return replicas, err
}

// noMesh adds to a missing cluster what else there is not.
func noMesh(err error) error {
	if errors.Is(err, errNoCluster) {
		return fmt.Errorf("no lab and no meshd is up on this machine, and %w", err)
	}
	return err
}

func newProxiesCommand() *cobra.Command {
	var mesh meshFlags
	var output string
	cmd := &cobra.Command{
		Use:   "proxies",
		Short: "Who is connected, what it holds, what it refused, when its certificate ends",
		Long: `Lists the proxies that are connected to meshd: in a cluster, to any of its
replicas. Exit code 1 says that a replica does not answer, or that a proxy does
not hold everything that was published for it. REFUSED has what a proxy refused,
in its words, or why meshd refuses it further destinations: there is a limit for
each proxy and for each workload, against port scans.

` + whichMesh + `

In a cluster it needs, in meshd's namespace, list on pods, and get and create on
pods/portforward: the chart's ClusterRole and Role meshd-check have them.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			replicas, err := mesh.ask(cmd.Context())
			if err != nil {
				return err
			}
			proxies := proxiesOf(replicas)
			if err := printProxies(cmd.OutOrStdout(), proxies, output); err != nil {
				return err
			}
			return judgeProxies(replicas, proxies)
		},
	}
	mesh.register(cmd.Flags())
	cmd.Flags().StringVarP(&output, "output", "o", "", "json, or a table")
	return cmd
}

// judgeProxies is an error if a replica does not answer, or a proxy has refused
// something or has not acknowledged everything.
func judgeProxies(replicas []replicaState, proxies []proxyRow) error {
	for _, r := range replicas {
		if r.err != nil {
			return r.err
		}
	}
	for _, p := range proxies {
		if !p.Synced {
			return fmt.Errorf("%s does not hold everything that was published for it", p.Name)
		}
	}
	return nil
}

func printProxies(w io.Writer, proxies []proxyRow, output string) error {
	switch output {
	case "json":
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(proxies)
	case "":
	default:
		return fmt.Errorf("-o %s: there is json, or a table without -o", output)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "PROXY\tIDENTITY\tREPLICA\tSYNCED\tDESTINATIONS\tCERTIFICATE ENDS IN\tREFUSED")
	for _, p := range proxies {
		replica := p.Replica
		if replica == "" {
			replica = "-"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%t\t%d\t%s\t%s\n", p.Name, p.Identity, replica, p.Synced, p.Destinations,
			time.Until(p.CertificateExpires).Round(time.Second), refusals(p.Proxy))
	}
	return t.Flush()
}

// refusals is the first thing that a proxy refused, in Envoy's words, or why it was refused destinations.
func refusals(p console.Proxy) string {
	for _, t := range p.Types {
		for _, r := range t.Rejected {
			return t.Type + " " + r.Resource + ": " + r.Message
		}
	}
	if p.Refused != "" {
		return "by meshd: " + p.Refused
	}
	return "-"
}
