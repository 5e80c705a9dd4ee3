package lab

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/console"
	"github.com/meshd-io/meshd/pkg/lab/store"
	"github.com/meshd-io/meshd/pkg/report"
)

// TestJudge says when an applied object is waited for, and when it is refused.
func TestJudge(t *testing.T) {
	k := report.Object{Kind: "AuthorizationPolicy", Namespace: "bank", Name: "p"}
	view := store.View{k: &meshv1a1.AuthorizationPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "bank", Name: "p", Generation: 2}}}
	for _, c := range []struct {
		name       string
		generation int64
		conditions string
		finding    *report.Finding
		want       string
	}{
		{name: "not read yet", want: "pending: AuthorizationPolicy bank/p: meshd has not read it yet"},
		{name: "an old generation", generation: 1, conditions: "Accepted=True Programmed=True", want: "pending: AuthorizationPolicy bank/p: meshd has not read it yet"},
		{name: "in force", generation: 2, conditions: "Accepted=True ResolvedRefs=True Programmed=True"},
		{name: "not acknowledged", generation: 2, conditions: "Accepted=True Programmed=False:Pending", want: "pending: AuthorizationPolicy bank/p: Pending it is"},
		{name: "no word on it", generation: 2, conditions: "Accepted=True", want: "pending: AuthorizationPolicy bank/p"},
		{name: "refused", generation: 2, conditions: "Accepted=False:Invalid Programmed=False:Pending", want: "refused: Invalid  Invalid it is"},
		{name: "refused, with its field", generation: 2, conditions: "Accepted=False:Invalid",
			finding: &report.Finding{Object: k, Condition: report.Accepted, Reason: report.Invalid, Field: "spec.action", Message: "no"}, want: "refused: Invalid spec.action no"},
		{name: "refused by an Envoy", generation: 2, conditions: "Accepted=True Programmed=False:Rejected", want: "refused: Rejected  Rejected it is"},
		{name: "a name that leads nowhere is no refusal", generation: 2, conditions: "Accepted=True ResolvedRefs=False:NotFound Programmed=True",
			want: "note: AuthorizationPolicy bank/p: NotFound it is"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s console.State
			if c.generation > 0 {
				s.Objects = []console.Object{{Kind: k.Kind, Namespace: k.Namespace, Name: k.Name, Generation: c.generation, Status: statusOfConditions(c.conditions)}}
			}
			if c.finding != nil {
				s.Findings = []report.Finding{*c.finding}
			}
			v := judge(view, []report.Object{k, {Kind: "Service", Namespace: "bank", Name: "x"}}, s)
			var got []string
			for _, p := range v.pending {
				got = append(got, "pending: "+p)
			}
			for _, f := range v.refused {
				got = append(got, fmt.Sprintf("refused: %s %s %s", f.Reason, f.Field, f.Message))
			}
			for _, n := range v.notes {
				got = append(got, "note: "+n)
			}
			if strings.Join(got, "\n") != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// statusOfConditions reads "Accepted=False:Reason ...".
func statusOfConditions(text string) json.RawMessage {
	var conditions []metav1.Condition
	for _, word := range strings.Fields(text) {
		kind, rest, _ := strings.Cut(word, "=")
		status, reason, _ := strings.Cut(rest, ":")
		c := metav1.Condition{Type: kind, Status: metav1.ConditionStatus(status), Reason: reason}
		if reason != "" {
			c.Message = reason + " it is"
		}
		conditions = append(conditions, c)
	}
	raw, err := json.Marshal(map[string]any{"conditions": conditions})
	if err != nil {
		panic(err)
	}
	return raw
}

func TestPendingPods(t *testing.T) {
	one := int32(1)
	d := &appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "bank", Name: "accounts", UID: "d"}, Spec: appsv1.DeploymentSpec{Replicas: &one},
	}
	view := store.View{store.KeyOf(d): d}
	got := pendingPods(view, []report.Object{store.KeyOf(d)})
	if want := []string{"Deployment bank/accounts: 0 of 1 pods ready"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	zero := int32(0)
	d.Spec.Replicas = &zero
	if got := pendingPods(view, []report.Object{store.KeyOf(d)}); got != nil {
		t.Errorf("%q", got)
	}
}

func TestChoosePod(t *testing.T) {
	pod := func(name, owner string, ready bool) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "bank", Name: name}}
		if owner != "" {
			yes := true
			p.OwnerReferences = []metav1.OwnerReference{{Kind: "Deployment", Name: owner, Controller: &yes}}
		}
		if ready {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		}
		return p
	}
	pods := []*corev1.Pod{pod("accounts-1", "accounts", false), pod("accounts-2", "accounts", true), pod("alone", "", true)}
	for name, want := range map[string]string{
		"deploy/accounts": "accounts-2", "deployment/accounts": "accounts-2", "accounts-1": "accounts-1",
		"alone": "alone", "pod/alone": "alone", "accounts": "", "deploy/alone": "", "sts/accounts": "",
	} {
		got := ""
		if p, err := choosePod(pods, "bank", name); err == nil {
			got = p.Name
		}
		if got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if _, err := choosePod(pods, "shop", "alone"); err == nil {
		t.Error("a pod of another namespace")
	}
}

func TestStreams(t *testing.T) {
	var wire bytes.Buffer
	frames := &frameWriter{w: &wire}
	long := bytes.Repeat([]byte("x"), maxFrame+1)
	if n, err := (streamWriter{frames, streamStdout}).Write(long); n != len(long) || err != nil {
		t.Fatal(n, err)
	}
	if _, err := (streamWriter{frames, streamStderr}).Write([]byte("oops")); err != nil {
		t.Fatal(err)
	}
	if err := frames.write(streamExit, []byte(`{"code":3}`)); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	code, err := receive(&wire, Streams{Out: &out, Err: &errs})
	if code != 3 || err != nil || !bytes.Equal(out.Bytes(), long) || errs.String() != "oops" {
		t.Errorf("%d %v %d bytes, %q", code, err, out.Len(), errs.String())
	}
	if _, err := receive(strings.NewReader("\x01\xff\xff\xff\xff"), Streams{Out: &out, Err: &errs}); err == nil {
		t.Error("a frame of 4 GiB is taken")
	}
	if _, err := receive(strings.NewReader(""), Streams{Out: &out, Err: &errs}); err == nil {
		t.Error("an end without an exit code is taken for success")
	}
}
