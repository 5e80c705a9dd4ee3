package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"sigs.k8s.io/yaml"

	"github.com/meshd-io/meshd/pkg/compile"
	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

func newTranslateCommand() *cobra.Command {
	var path, workload, output string
	cmd := &cobra.Command{
		Use:   "translate -f PATH --workload NS/NAME",
		Short: "Offline: the Envoy resources of one workload",
		Long: `Prints the Envoy resources that the proxies of one workload would get if they
had asked for every destination. NAME is a pod, a controller of pods (Deployment
and the like) or a Workload. Addresses that a cluster would give are made up.
What is wrong with the objects goes to stderr, and makes the exit code 1.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return translate(cmd.OutOrStdout(), cmd.ErrOrStderr(), path, workload, output)
		},
	}
	cmd.Flags().StringVarP(&path, "filename", "f", "", "file or folder of Kubernetes YAML")
	cmd.Flags().StringVar(&workload, "workload", "", "NAMESPACE/NAME")
	cmd.Flags().StringVarP(&output, "output", "o", "yaml", "yaml or json")
	_ = cmd.MarkFlagRequired("filename") // fails for unknown flags only
	_ = cmd.MarkFlagRequired("workload")
	return cmd
}

func translate(out, errs io.Writer, path, workload, output string) error {
	namespace, name, ok := strings.Cut(workload, "/")
	if !ok || namespace == "" || name == "" {
		return fmt.Errorf("--workload %q: want NAMESPACE/NAME", workload)
	}
	if output != "yaml" && output != "json" {
		return fmt.Errorf("-o %s: there are yaml and json", output)
	}
	written, findings, err := crds.Load(path)
	if err != nil {
		return err
	}
	snapshot, more, err := complete(written)
	if err != nil {
		return err
	}
	if err := findWorkload(snapshot, namespace, name); err != nil {
		return errors.Join(err, tell(errs, findings))
	}
	cidrs := []netip.Prefix{netip.MustParsePrefix(offlinePods), netip.MustParsePrefix(offlineServices)}
	mesh, compiled := compile.Compile(snapshot, compile.Config{CIDRs: cidrs})
	findings = slices.Concat(findings, more, compiled)
	pod := mesh.Pods[model.Name{Namespace: namespace, Name: name}]
	if pod == nil || !pod.InMesh {
		return errors.Join(fmt.Errorf("%s is not in the mesh: it has no sidecar (label its namespace or pod meshd.io/inject: enabled)", workload), tell(errs, findings))
	}
	demand, _ := scope.All(mesh).Promote()
	resources, translated := envoy.Translate(scope.Of(mesh, pod.Key, demand))
	if err := printResources(out, resources, output); err != nil {
		return err
	}
	return tell(errs, report.Sort(append(findings, translated...)))
}

// tell prints findings, a line each; what is not merely said beside an object is an error.
func tell(w io.Writer, findings []report.Finding) error {
	wrong := 0
	for _, f := range findings {
		where := ""
		if f.File != "" {
			where = fmt.Sprintf("%s:%d: ", f.File, f.Line)
		}
		if f.Field != "" {
			f.Message = f.Field + ": " + f.Message
		}
		if !f.Reason.Informs() {
			wrong++
		}
		if _, err := fmt.Fprintf(w, "%s%s: %s: %s\n", where, f.Object, f.Reason, f.Message); err != nil {
			return err
		}
	}
	if wrong > 0 {
		return fmt.Errorf("%d findings", wrong)
	}
	return nil
}

// printResources prints {TYPE: [resource, ...]} by short type.
func printResources(w io.Writer, resources envoy.Resources, output string) error {
	all := map[string][]json.RawMessage{}
	for typ, list := range resources {
		for _, r := range list {
			text, err := protojson.Marshal(r.Proto)
			if err != nil {
				return fmt.Errorf("%s: %w", r.Name, err)
			}
			all[shortType(string(typ))] = append(all[shortType(string(typ))], text)
		}
	}
	text, err := json.Marshal(all)
	if err != nil {
		return err
	}
	if output == "yaml" {
		if text, err = yaml.JSONToYAML(text); err != nil {
			return err
		}
	}
	_, err = w.Write(text)
	return err
}
