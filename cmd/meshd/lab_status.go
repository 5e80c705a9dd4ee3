package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/meshd-io/meshd/pkg/lab"
)

func newLabStatus(f *labFlags) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "status", Short: "Pods, gateways, objects and proxies of the lab", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := lab.NewClient(f.dir).Status(cmd.Context())
			if err != nil {
				return err
			}
			switch output {
			case "json":
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(s)
			case "":
				return printLabStatus(cmd.OutOrStdout(), s)
			}
			return fmt.Errorf("-o %s: only json is known", output)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "json, or a table")
	return cmd
}

func printLabStatus(out io.Writer, s lab.Status) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAMESPACE\tPOD\tREADY\tPHASE\tADDRESS\tRESTARTS\t")
	for _, p := range s.Pods {
		ready, all, restarts := 0, 0, int32(0)
		for _, c := range p.Containers {
			restarts += c.Restarts
			if c.State == "terminated" && c.ExitCode != nil && *c.ExitCode == 0 && !c.Sidecar && p.Phase == "Running" {
				continue // an init container that is done
			}
			all++
			if c.Ready {
				ready++
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%d/%d\t%s\t%s\t%d\t%s\n", p.Namespace, p.Name, ready, all, p.Phase, p.Address, restarts, p.Message)
	}
	for _, g := range s.Gateways {
		fmt.Fprintf(w, "%s\tgateway %s\t\t\t%s\t\tports %v\n", g.Namespace, g.Name, g.Address, g.Ports)
	}
	return w.Flush()
}
