package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/meshd-io/meshd/pkg/console"
	"github.com/meshd-io/meshd/pkg/lab"
)

// DefaultAdminSocket is where a meshd serves the operator, and where the tools look for it.
const DefaultAdminSocket = "/run/meshd-admin/admin.sock"

func newProxiesCommand() *cobra.Command {
	var socket, output string
	cmd := &cobra.Command{
		Use:   "proxies",
		Short: "Who is connected, what it holds, what it refused, when its certificate ends",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			state, err := console.NewClient(adminSocket(socket)).State(cmd.Context(), 0)
			if err != nil {
				return err
			}
			if err := printProxies(cmd.OutOrStdout(), state.Proxies, output); err != nil {
				return err
			}
			return judgeProxies(state.Proxies)
		},
	}
	cmd.Flags().StringVar(&socket, "admin-socket", "", "meshd's admin socket (default: the lab's, or "+DefaultAdminSocket+")")
	cmd.Flags().StringVarP(&output, "output", "o", "", "json, or a table")
	return cmd
}

// adminSocket is the one that is named, or else the lab's where a lab is up, or else the default.
func adminSocket(named string) string {
	if named != "" {
		return named
	}
	if socket := lab.AdminSocket(defaultLabDir()); exists(socket) {
		return socket
	}
	return DefaultAdminSocket
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// judgeProxies is an error if a proxy has refused something or has not acknowledged everything.
func judgeProxies(proxies []console.Proxy) error {
	for _, p := range proxies {
		if !p.Synced {
			return fmt.Errorf("%s does not hold everything that was published for it", p.Name)
		}
	}
	return nil
}

func printProxies(w io.Writer, proxies []console.Proxy, output string) error {
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
	fmt.Fprintln(t, "PROXY\tIDENTITY\tSYNCED\tDESTINATIONS\tCERTIFICATE ENDS IN\tREFUSED")
	for _, p := range proxies {
		fmt.Fprintf(t, "%s\t%s\t%t\t%d\t%s\t%s\n", p.Name, p.Identity, p.Synced, p.Destinations,
			time.Until(p.CertificateExpires).Round(time.Second), refusals(p))
	}
	return t.Flush()
}

// refusals is the first thing that a proxy refused, in Envoy's words.
func refusals(p console.Proxy) string {
	for _, t := range p.Types {
		for _, r := range t.Rejected {
			return t.Type + " " + r.Resource + ": " + r.Message
		}
	}
	return "-"
}
