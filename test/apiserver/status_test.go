package apiserver

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/internal/kubetest"
	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/report"
	"github.com/meshd-io/meshd/pkg/status"
)

// rendered is a status with everything in it.
func rendered(o client.Object, kind string, refs []meshv1a1.TargetRef) (status.Object, status.Progress, metav1.Time) {
	self := report.Object{Kind: kind, Namespace: o.GetNamespace(), Name: o.GetName()}
	in := status.Object{Object: self, Generation: o.GetGeneration(), TargetRefs: refs}
	if len(refs) > 0 {
		in.Findings = []report.Finding{{
			Object: self, Condition: report.Accepted, Reason: report.Overridden, Field: "spec.targetRefs[0]",
			By: report.Object{Kind: kind, Namespace: "shop", Name: "older"}, Message: "older has the say",
		}}
	}
	progress := status.Progress{Total: 12, Acknowledged: 7, Laggards: []string{"shop/a", "shop/b"}}
	return in, progress, metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
}

// What meshd renders is what the API server keeps: no field is lost in the
// status subresource, and none of the spec changes.
func TestStatusSurvives(t *testing.T) {
	c := cluster.Get(t)
	api, namespace := c.Client(t), c.Namespace(t, nil)
	refs := []meshv1a1.TargetRef{{Kind: "Service", Name: "s"}}
	policy := &meshv1a1.TrafficPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "p"}, Spec: meshv1a1.TrafficPolicySpec{TargetRefs: refs}}
	if err := api.Create(t.Context(), policy); err != nil {
		t.Fatal(err)
	}
	in, progress, now := rendered(policy, "TrafficPolicy", refs)
	want := status.Render(in, progress, now)
	policy.Status = want
	if err := api.Status().Update(t.Context(), policy); err != nil {
		t.Fatal(err)
	}
	var got meshv1a1.TrafficPolicy
	if err := api.Get(t.Context(), client.ObjectKeyFromObject(policy), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got.Status); diff != "" {
		t.Error(diff)
	}
	if got.Generation != 1 {
		t.Errorf("generation %d: a status is no change of the object", got.Generation)
	}
}

func TestAuthorityStatusSurvives(t *testing.T) {
	c := cluster.Get(t)
	api := c.Client(t)
	ca := &meshv1a1.CertificateAuthority{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	if err := client.IgnoreAlreadyExists(api.Create(t.Context(), ca)); err != nil {
		t.Fatal(err)
	}
	if err := api.Get(t.Context(), client.ObjectKeyFromObject(ca), ca); err != nil {
		t.Fatal(err)
	}
	in, progress, now := rendered(ca, "CertificateAuthority", nil)
	one := []meshv1a1.CertificateStatus{{Fingerprint: strings.Repeat("ab", 32), NotAfter: now}}
	want := status.RenderCertificateAuthority(in, progress, status.Authority{Phase: "Stable", Roots: one, Issuers: one}, now)
	ca.Status = want
	if err := api.Status().Update(t.Context(), ca); err != nil {
		t.Fatal(err)
	}
	if err := api.Get(t.Context(), client.ObjectKeyFromObject(ca), ca); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, ca.Status); diff != "" {
		t.Error(diff)
	}
}

// kubectl get tells of every kind how far it is.
func TestColumns(t *testing.T) {
	c := cluster.Get(t)
	definitions, err := crds.Definitions()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range definitions {
		var names []string
		for _, column := range d.Spec.Versions[0].AdditionalPrinterColumns {
			names = append(names, column.Name)
		}
		for _, want := range []string{"Accepted", "Programmed", "Reason", "Acknowledged", "Proxies", "Age"} {
			if !strings.Contains(strings.Join(names, "\n")+"\n", want+"\n") {
				t.Errorf("%s has no column %s", d.Spec.Names.Kind, want)
			}
		}
	}
	policy := columnsOf(t, c)
	out, err := kubectl(t, c, "", "get", "trafficpolicy", "-n", policy.Namespace, policy.Name, "-o", "wide")
	if err != nil {
		t.Fatal(err, out)
	}
	lines := strings.Split(out, "\n")
	if got := strings.Join(strings.Fields(lines[0]), " "); got != "NAME ACCEPTED PROGRAMMED REASON ACKNOWLEDGED PROXIES REJECTED RESOLVED LAGGARDS AGE" {
		t.Errorf("header %q", got)
	}
	if got := strings.Join(strings.Fields(lines[1])[:9], " "); got != `columns True False Pending 7 12 0 True ["shop/a","shop/b"]` {
		t.Errorf("row %q", got)
	}
}

func columnsOf(t *testing.T, c *kubetest.Cluster) *meshv1a1.TrafficPolicy {
	t.Helper()
	api := c.Client(t)
	refs := []meshv1a1.TargetRef{{Kind: "Service", Name: "s"}}
	policy := &meshv1a1.TrafficPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace(t, nil), Name: "columns"}, Spec: meshv1a1.TrafficPolicySpec{TargetRefs: refs},
	}
	if err := api.Create(t.Context(), policy); err != nil {
		t.Fatal(err)
	}
	in, progress, now := rendered(policy, "TrafficPolicy", refs)
	policy.Status = status.Render(in, progress, now)
	if err := api.Status().Update(t.Context(), policy); err != nil {
		t.Fatal(err)
	}
	return policy
}
