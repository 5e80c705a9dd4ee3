package status

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/events"

	"golang.org/x/time/rate"

	"github.com/meshd-io/meshd/internal/clock"
	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/report"
)

const (
	// EventReporter is the reportingController of meshd's Events.
	EventReporter = "meshd.io/meshd"
	// eventAction is what meshd was doing when it found what an Event tells.
	eventAction = "Configure"

	eventRate  = 10 // a second
	eventBurst = 50
	eventPace  = time.Second // between two looks
	// maxNote is the API's limit of an Event's note, and room for the mark of a cut.
	maxNote = 1024 - 8
)

// EventsConfig of Events.
type EventsConfig struct {
	Client kubernetes.Interface
	// Findings of now with the snapshot that they speak of; ok is false while they are not known.
	Findings func() (findings []report.Finding, snapshot *crds.Snapshot, ok bool)
	// Changed gives a channel that is closed when Findings may give something new.
	Changed func() <-chan struct{}
	Log     *slog.Logger
}

// Events tells findings about objects that have no conditions of meshd's
// (Services, Pods, Ingresses, ...) as Events, each once as long as it lasts.
type Events struct{ cfg EventsConfig }

// NewEvents has told nothing yet.
func NewEvents(cfg EventsConfig) *Events {
	cfg.Log = cmp.Or(cfg.Log, slog.Default())
	return &Events{cfg: cfg}
}

// Run tells until ctx ends: the context of being the leader.
func (e *Events) Run(ctx context.Context) error {
	broadcaster := events.NewBroadcaster(&events.EventSinkImpl{Interface: e.cfg.Client.EventsV1()})
	defer broadcaster.Shutdown()
	if err := broadcaster.StartRecordingToSinkWithContext(ctx); err != nil {
		return fmt.Errorf("events: %w", err)
	}
	recorder := broadcaster.NewRecorder(runtime.NewScheme(), EventReporter)
	limiter := rate.NewLimiter(eventRate, eventBurst)
	told := map[report.Finding]bool{}
	for {
		changed, all := e.cfg.Changed(), true
		if findings, snapshot, ok := e.cfg.Findings(); ok {
			told, all = tellNew(findings, told, snapshot, limiter, recorder)
		}
		if !clock.Pause(ctx, eventPace) {
			return nil
		}
		if !all {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// tellNew tells those that were not told before, and gives what is told now. all
// is false when the limiter has left some for later.
func tellNew(findings []report.Finding, before map[report.Finding]bool, snapshot *crds.Snapshot,
	limiter *rate.Limiter, recorder events.EventRecorder) (told map[report.Finding]bool, all bool) {
	told, all = map[report.Finding]bool{}, true
	for _, f := range findings {
		f.Generation, f.File, f.Line = 0, "", 0 // the same finding of the next generation is no news
		if told[f] {
			continue
		}
		if before[f] {
			told[f] = true
			continue
		}
		about := reference(f.Object, snapshot)
		switch {
		case about == nil:
		case limiter.Allow():
			kind := corev1.EventTypeWarning
			if f.Reason.Informs() {
				kind = corev1.EventTypeNormal
			}
			recorder.Eventf(about, nil, kind, string(f.Reason), eventAction, "%s", note(f))
			told[f] = true
		default:
			all = false
		}
	}
	return told, all
}

func note(f report.Finding) string {
	text := f.Message
	if f.Field != "" {
		text = f.Field + ": " + text
	}
	return cutTo(text, maxNote)
}

// reference names an object of a kind that has no conditions of meshd's; nil
// is for others, and for what is not there.
func reference(o report.Object, s *crds.Snapshot) *corev1.ObjectReference {
	var meta *metav1.ObjectMeta
	version := "v1"
	switch o.Kind {
	case "Pod":
		meta = find(s.Pods, o, func(p *corev1.Pod) *metav1.ObjectMeta { return &p.ObjectMeta })
	case "Service":
		meta = find(s.Services, o, func(s *corev1.Service) *metav1.ObjectMeta { return &s.ObjectMeta })
	case "Namespace":
		meta = find(s.Namespaces, o, func(n *corev1.Namespace) *metav1.ObjectMeta { return &n.ObjectMeta })
	case "Secret":
		meta = find(s.Secrets, o, func(s *corev1.Secret) *metav1.ObjectMeta { return &s.ObjectMeta })
	case "ServiceAccount":
		meta = find(s.ServiceAccounts, o, func(a *corev1.ServiceAccount) *metav1.ObjectMeta { return &a.ObjectMeta })
	case "Ingress":
		version = networkingv1.SchemeGroupVersion.String()
		meta = find(s.Ingresses, o, func(i *networkingv1.Ingress) *metav1.ObjectMeta { return &i.ObjectMeta })
	case "IngressClass":
		version = networkingv1.SchemeGroupVersion.String()
		meta = find(s.IngressClasses, o, func(c *networkingv1.IngressClass) *metav1.ObjectMeta { return &c.ObjectMeta })
	}
	if meta == nil {
		return nil
	}
	return &corev1.ObjectReference{
		APIVersion: version, Kind: o.Kind, Namespace: meta.Namespace, Name: meta.Name, UID: meta.UID, ResourceVersion: meta.ResourceVersion,
	}
}

func find[T any](objects []T, o report.Object, meta func(T) *metav1.ObjectMeta) *metav1.ObjectMeta {
	i, ok := slices.BinarySearchFunc(objects, o, func(candidate T, o report.Object) int {
		m := meta(candidate)
		return cmp.Or(cmp.Compare(m.Namespace, o.Namespace), cmp.Compare(m.Name, o.Name))
	})
	if !ok {
		return nil
	}
	return meta(objects[i])
}
