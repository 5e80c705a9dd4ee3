package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshd-io/meshd/internal/version"
	"github.com/meshd-io/meshd/pkg/ca"
	"github.com/meshd-io/meshd/pkg/check"
	"github.com/meshd-io/meshd/pkg/console"
	"github.com/meshd-io/meshd/pkg/report"
)

func newCheckCommand() *cobra.Command {
	var mesh meshFlags
	var output string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Is this mesh healthy",
		Long: `Prints one line for each check: OK, WARN or FAIL, what was found, and the cure.
The exit code is 0 only if all is well; what cannot be read is not well either.

` + whichMesh + `

In a cluster it needs what the chart's ClusterRole and Role meshd-check allow;
bind both to whoever looks after the mesh. They hold no Secret.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "" && output != "json" {
				return fmt.Errorf("-o %s: there is json, or a table without -o", output)
			}
			facts, where, err := mesh.facts(cmd.Context())
			if err != nil {
				return err
			}
			results := check.Run(facts)
			if err := printResults(cmd.OutOrStdout(), where, results, output); err != nil {
				return err
			}
			return judgeResults(results)
		},
	}
	mesh.register(cmd.Flags())
	cmd.Flags().StringVarP(&output, "output", "o", "", "json, or a table")
	return cmd
}

// facts of the mesh that is meant, and where it is.
func (f meshFlags) facts(ctx context.Context) (check.Facts, string, error) {
	facts := check.Facts{Now: time.Now(), Version: version.Version, Leaf: ca.DefaultLifetimes().Leaf}
	if socket := f.local(); socket != "" {
		replicas, err := f.ask(ctx)
		if err != nil {
			return facts, "", err
		}
		state := replicas[0].state
		facts.Replicas, facts.Objects = []check.Replica{{State: state}}, objectsOf(state)
		facts.Leaf = 0 // how long leaves live is in the files of that meshd
		return facts, "meshd at " + socket, nil
	}
	config, err := f.kube.config()
	if err != nil {
		return facts, "", noMesh(err)
	}
	g, err := newGatherer(config, f.kube.namespace)
	if err != nil {
		return facts, "", err
	}
	err = g.gather(ctx, &facts)
	return facts, "cluster at " + config.Host + ", namespace " + f.kube.namespace, err
}

// objectsOf are the objects of a state with their conditions.
func objectsOf(state console.State) []check.Object {
	var out []check.Object
	for _, o := range state.Objects {
		var status struct {
			ObservedGeneration int64
			Conditions         []metav1.Condition
		}
		if json.Unmarshal(o.Status, &status) != nil {
			continue // statuses come from this program's own types
		}
		out = append(out, check.Object{
			Object:     report.Object{Kind: o.Kind, Namespace: o.Namespace, Name: o.Name},
			Generation: o.Generation, Observed: status.ObservedGeneration, Conditions: status.Conditions,
		})
	}
	return out
}

func judgeResults(results []check.Result) error {
	bad := 0
	for _, r := range results {
		if r.Level != check.OK {
			bad++
		}
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d checks are not OK", bad, len(results))
	}
	return nil
}

func printResults(w io.Writer, where string, results []check.Result, output string) error {
	if output == "json" {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(struct {
			Mesh    string         `json:"mesh"`
			Healthy bool           `json:"healthy"`
			Checks  []check.Result `json:"checks"`
		}{where, check.Healthy(results), results})
	}
	fmt.Fprintln(w, where)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, r := range results {
		text := r.Message
		if r.Cure != "" {
			text += " -> " + r.Cure
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", r.Level, r.Check, text)
	}
	return t.Flush()
}
