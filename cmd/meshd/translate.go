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
	var kube kubeFlags
	var path, workload, output string
	cmd := &cobra.Command{
		Use:   "translate [-f PATH] --workload NS/NAME",
		Short: "The Envoy resources of one workload: offline with -f, otherwise of the cluster",
		Long: `Prints the Envoy resources that the proxies of one workload would get if they
had asked for every destination. NAME is a pod, a controller of pods (Deployment
and the like) or a Workload.

With -f everything is read from files, and addresses that a cluster would give
are made up. Without it the objects of the cluster are read (--kubeconfig,
--context); private keys are left out of what is printed. What is wrong with the
objects goes to stderr, and makes the exit code 1.

In a cluster it needs list on namespaces, serviceaccounts, services, pods, nodes,
endpointslices, ingresses, ingressclasses, servicecidrs, httproutes (where there
are any) and all of meshd.io, and get on pods; with list on secrets it knows the
certificates of Ingresses too.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			w, err := parseWorkload(workload)
			if err != nil {
				return err
			}
			if output != "yaml" && output != "json" {
				return fmt.Errorf("-o %s: there are yaml and json", output)
			}
			var in translation
			switch {
			case path != "" && kube.named():
				return errors.New("-f and a cluster: name one of them")
			case path != "":
				in, err = fromFiles(path, w)
			default:
				in, err = fromCluster(cmd.Context(), kube, w)
			}
			if err != nil {
				return errors.Join(err, tell(cmd.ErrOrStderr(), in.findings))
			}
			return translate(cmd.OutOrStdout(), cmd.ErrOrStderr(), in, output)
		},
	}
	cmd.Flags().StringVarP(&path, "filename", "f", "", "file or folder of Kubernetes YAML")
	cmd.Flags().StringVar(&workload, "workload", "", "NAMESPACE/NAME")
	cmd.Flags().StringVarP(&output, "output", "o", "yaml", "yaml or json")
	kube.register(cmd.Flags())
	_ = cmd.MarkFlagRequired("workload") // fails for unknown flags only
	return cmd
}

func parseWorkload(text string) (model.Name, error) {
	namespace, name, ok := strings.Cut(text, "/")
	if !ok || namespace == "" || name == "" {
		return model.Name{}, fmt.Errorf("--workload %q: want NAMESPACE/NAME", text)
	}
	return model.Name{Namespace: namespace, Name: name}, nil
}

// translation is what is to be translated.
type translation struct {
	snapshot *crds.Snapshot
	config   compile.Config
	// pod is one of the workload's.
	pod model.Name
	// findings so far.
	findings []report.Finding
	// live: of a cluster, whose keys are not to be shown.
	live bool
}

func fromFiles(path string, workload model.Name) (translation, error) {
	written, findings, err := crds.Load(path)
	if err != nil {
		return translation{}, err
	}
	snapshot, more, err := complete(written)
	if err != nil {
		return translation{}, err
	}
	if err := findWorkload(snapshot, workload.Namespace, workload.Name); err != nil {
		return translation{findings: findings}, err
	}
	cidrs := []netip.Prefix{netip.MustParsePrefix(offlinePods), netip.MustParsePrefix(offlineServices)}
	return translation{
		snapshot: snapshot, config: compile.Config{CIDRs: cidrs}, pod: workload, findings: slices.Concat(findings, more),
	}, nil
}

func translate(out, errs io.Writer, in translation, output string) error {
	mesh, compiled := compile.Compile(in.snapshot, in.config)
	findings := slices.Concat(in.findings, compiled)
	pod, _ := mesh.Pods.Get(in.pod)
	if pod == nil || !pod.InMesh {
		return errors.Join(fmt.Errorf("%s/%s is not in the mesh: it has no sidecar (label its namespace or pod meshd.io/inject: enabled)",
			in.pod.Namespace, in.pod.Name), tell(errs, findings))
	}
	demand, _ := scope.All(mesh).Promote()
	resources, translated := envoy.Translate(scope.Of(mesh, pod.Key, demand))
	if err := printResources(out, resources, output, in.live); err != nil {
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
func printResources(w io.Writer, resources envoy.Resources, output string, withoutKeys bool) error {
	all := map[string][]json.RawMessage{}
	for typ, list := range resources {
		for _, r := range list {
			text, err := protojson.Marshal(r.Proto)
			if err != nil {
				return fmt.Errorf("%s: %w", r.Name, err)
			}
			if withoutKeys {
				if text, err = dropKeys(text); err != nil {
					return fmt.Errorf("%s: %w", r.Name, err)
				}
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
