package apiserver

import (
	"context"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/internal/kubetest"
)

// retryPause is between two looks at whether the API server goes by new definitions.
const retryPause = 50 * time.Millisecond

// An object that was stored under older definitions is there under the new
// ones, with its status, and takes their fields.
func TestDefinitionsAreUpgraded(t *testing.T) {
	c := cluster.Get(t)
	t.Cleanup(func() { c.InstallCRDs(t) })
	older := kubetest.CRDs()
	for _, d := range older {
		if d.Spec.Names.Kind != "TrafficPolicy" {
			continue
		}
		spec := d.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"]
		retry := spec.Properties["retry"]
		delete(retry.Properties, "true")
		retry.XValidations = nil
		spec.Properties["retry"] = retry
		d.Spec.Versions[0].AdditionalPrinterColumns = nil
	}
	c.InstallCRDs(t, older...)
	policy := columnsOf(t, c)
	newer := policy.DeepCopy()
	newer.Spec.Retry = &meshv1a1.Retry{True: []string{"Reset"}}
	takes := func(want bool) {
		t.Helper()
		api := client.WithFieldValidation(c.Client(t), metav1.FieldValidationStrict)
		err := wait.PollUntilContextTimeout(t.Context(), retryPause, kubetest.Patience, true, func(ctx context.Context) (bool, error) {
			return (api.Patch(ctx, newer.DeepCopy(), client.MergeFrom(policy), client.DryRunAll) == nil) == want, nil
		})
		if err != nil {
			t.Fatalf("the new field is taken: not %t in time", want)
		}
	}
	takes(false)
	c.InstallCRDs(t)
	takes(true)
	var got meshv1a1.TrafficPolicy
	if err := c.Client(t).Get(t.Context(), client.ObjectKeyFromObject(policy), &got); err != nil {
		t.Fatal(err)
	}
	if c := meta.FindStatusCondition(got.Status.Conditions, "Programmed"); c == nil || c.Reason != "Pending" || got.Generation != 1 {
		t.Errorf("generation %d, conditions: %+v", got.Generation, got.Status.Conditions)
	}
}
