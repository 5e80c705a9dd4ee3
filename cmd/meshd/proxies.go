package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/meshd-io/meshd/pkg/console"
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
			path, err := adminSocket(socket)
			if err != nil {
				return err
			}
			state, err := console.NewClient(path).State(cmd.Context(), 0)
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
