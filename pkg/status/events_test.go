package status

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"golang.org/x/time/rate"

	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/report"
)

// recorder keeps what it is told: TYPE REASON KIND NAME NOTE.
type recorder struct{ told []string }

func (r *recorder) Eventf(regarding, _ runtime.Object, kind, reason, _, text string, args ...any) {
	o := regarding.(*corev1.ObjectReference)
	r.told = append(r.told, fmt.Sprint(kind, " ", reason, " ", o.Kind, " ", o.Name, " ", fmt.Sprintf(text, args...)))
}

var _ events.EventRecorder = &recorder{}

func services(names ...string) *crds.Snapshot {
	s := &crds.Snapshot{}
	for _, n := range names {
		s.Services = append(s.Services, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: n, UID: types.UID("uid-" + n)}})
	}
	return s
}

func about(name, message string) report.Finding {
	return report.Finding{Object: report.Object{Kind: "Service", Namespace: "shop", Name: name}, Reason: report.Invalid, Message: message}
}

func TestOnlyWhatIsNewIsTold(t *testing.T) {
	r, limiter, s := &recorder{}, rate.NewLimiter(0, 3), services("a", "b")
	field := about("a", "100% wrong")
	field.Field, field.Generation, field.File = "spec.ports[0]", 1, "x.yaml"
	informs := about("b", "no endpoints")
	informs.Reason = report.NoEndpoints
	told, all := tellNew([]report.Finding{field, informs, about("gone", "x")}, nil, s, limiter, r)
	if want := []string{"Warning Invalid Service a spec.ports[0]: 100% wrong", "Normal NoEndpoints Service b no endpoints"}; !all || !slices.Equal(r.told, want) {
		t.Errorf("told %q", r.told)
	}

	// The same of the next generation is no news; what comes again after it was gone is.
	r.told, field.Generation = nil, 2
	told, _ = tellNew([]report.Finding{field}, told, s, limiter, r)
	if len(r.told) != 0 {
		t.Errorf("told again: %q", r.told)
	}
	told, all = tellNew([]report.Finding{field, informs}, told, s, limiter, r)
	if !all || len(r.told) != 1 {
		t.Errorf("told %q", r.told)
	}

	// What the limiter leaves is told later.
	third := about("b", "another")
	told, all = tellNew([]report.Finding{field, informs, third}, told, s, limiter, r)
	if all || len(r.told) != 1 {
		t.Errorf("told %q", r.told)
	}
	_, all = tellNew([]report.Finding{field, informs, third}, told, s, rate.NewLimiter(1, 1), r)
	if !all || len(r.told) != 2 {
		t.Errorf("told %q", r.told)
	}
}

func TestNotesKeepToTheLimit(t *testing.T) {
	if n := len(note(about("a", strings.Repeat("ä", 2000)))); n > 1024 {
		t.Errorf("%d bytes", n)
	}
}

func TestEventsReachTheObject(t *testing.T) {
	b := newBench(t)
	ctx, cancel := context.WithCancel(context.Background())
	grant(t, b, "events", []rbacv1.PolicyRule{{APIGroups: []string{"events.k8s.io"}, Resources: []string{"events"}, Verbs: []string{"create", "patch"}}})
	clients, err := kubernetes.NewForConfig(b.As(b.namespace, "events"))
	if err != nil {
		t.Fatal(err)
	}
	ingress := b.snapshot(t).Ingresses[0]
	ns := &corev1.Namespace{}
	if err := b.api.Get(ctx, client.ObjectKey{Name: b.namespace}, ns); err != nil {
		t.Fatal(err)
	}
	findings := []report.Finding{
		{Object: report.Object{Kind: "Ingress", Namespace: b.namespace, Name: "a"}, Reason: report.NotFound, Message: "no Service s"},
		{Object: report.Object{Kind: "Namespace", Name: b.namespace}, Reason: report.NotInjected, Message: "pods are left out"},
		{Object: report.Object{Kind: "TrafficPolicy", Namespace: b.namespace, Name: "a"}, Reason: report.NotFound, Message: "has a status"},
	}
	e := NewEvents(EventsConfig{
		Client: clients, Changed: func() <-chan struct{} { return nil },
		Findings: func() ([]report.Finding, *crds.Snapshot, bool) {
			s := b.snapshot(t)
			s.Namespaces = []*corev1.Namespace{ns}
			return findings, s, true
		},
	})
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	for _, want := range []struct {
		namespace string
		uid       types.UID
		reason    string
	}{{b.namespace, ingress.UID, "NotFound"}, {"default", ns.UID, "NotInjected"}} {
		b.until(t, want.reason, func() (bool, error) {
			var list eventsv1.EventList
			err := b.api.List(ctx, &list, client.InNamespace(want.namespace))
			return slices.ContainsFunc(list.Items, func(e eventsv1.Event) bool {
				return e.Regarding.UID == want.uid && e.Reason == want.reason && e.ReportingController == EventReporter
			}), err
		})
	}
	var list corev1.EventList // as kubectl describe sees them
	if err := b.api.List(ctx, &list, client.InNamespace(b.namespace)); err != nil || len(list.Items) != 1 {
		t.Errorf("%d Events, %v", len(list.Items), err)
	}
}
