package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"time"

	"github.com/spf13/cobra"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	v1 "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset/typed/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/retry"

	crdfiles "github.com/meshd-io/meshd/charts/meshd/crds"
	"github.com/meshd-io/meshd/pkg/crds"
)

// establishTimeout bounds the wait for a new kind to be served, and establishPoll the time between two looks.
const establishTimeout, establishPoll = time.Minute, 200 * time.Millisecond

func newCRDsCommand() *cobra.Command {
	var kube kubeFlags
	var apply bool
	cmd := &cobra.Command{
		Use:   "crds",
		Short: "Print the definitions of meshd's kinds, or bring a cluster's up to date (what a helm upgrade does first)",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !apply {
				return printCRDs(cmd.OutOrStdout())
			}
			config, err := kube.config()
			if err != nil {
				return err
			}
			client, err := v1.NewForConfig(config)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), establishTimeout)
			defer cancel()
			return applyCRDs(ctx, cmd.OutOrStdout(), client.CustomResourceDefinitions())
		},
	}
	cmd.Flags().BoolVar(&apply, "apply", false, "write them to the cluster, and return when their kinds are served")
	kube.register(cmd.Flags())
	return cmd
}

// printCRDs writes the definitions as they are in the chart: each begins with ---.
func printCRDs(out io.Writer) error {
	names, err := fs.Glob(crdfiles.FS(), "*.yaml")
	if err != nil {
		return err
	}
	for _, name := range names {
		text, err := fs.ReadFile(crdfiles.FS(), name)
		if err != nil {
			return err
		}
		if _, err := out.Write(text); err != nil {
			return err
		}
	}
	return nil
}

// applyCRDs makes the cluster's definitions those of this meshd. It replaces
// the spec as a whole: an apply would leave in it what another field manager
// (helm, at the installation) has written and this version no longer has.
func applyCRDs(ctx context.Context, out io.Writer, client v1.CustomResourceDefinitionInterface) error {
	wanted, err := crds.Definitions()
	if err != nil {
		return err
	}
	for _, want := range wanted {
		err := retry.RetryOnConflict(retry.DefaultRetry, func() error { return applyCRD(ctx, client, want) })
		if err == nil {
			err = established(ctx, client, want.Name)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", want.Name, err)
		}
		fmt.Fprintln(out, want.Name, "is up to date")
	}
	return nil
}

func applyCRD(ctx context.Context, client v1.CustomResourceDefinitionInterface, want *apiextensionsv1.CustomResourceDefinition) error {
	have, err := client.Get(ctx, want.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = client.Create(ctx, want, metav1.CreateOptions{})
		return err
	}
	if err != nil {
		return err
	}
	have.Spec = want.Spec
	if have.Annotations == nil {
		have.Annotations = map[string]string{}
	}
	maps.Copy(have.Annotations, want.Annotations)
	_, err = client.Update(ctx, have, metav1.UpdateOptions{})
	return err
}

// established returns when the API server serves a kind as it is now defined.
func established(ctx context.Context, client v1.CustomResourceDefinitionInterface, name string) error {
	refusal := ""
	err := wait.PollUntilContextCancel(ctx, establishPoll, true, func(ctx context.Context) (bool, error) {
		crd, err := client.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		for _, c := range crd.Status.Conditions {
			switch {
			case c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue:
				return true, nil
			case c.Type == apiextensionsv1.NamesAccepted && c.Status == apiextensionsv1.ConditionFalse:
				refusal = ": " + c.Message
			}
		}
		return false, nil
	})
	if err != nil {
		return fmt.Errorf("it is not served%s: %w", refusal, err)
	}
	return nil
}
