package status

import (
	"cmp"
	"context"
	"log/slog"
	"reflect"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"golang.org/x/time/rate"

	"github.com/meshd-io/meshd/internal/clock"
	"github.com/meshd-io/meshd/pkg/report"
)

// Defaults of WriterConfig.
const (
	DefaultRate  = 50                     // writes a second
	DefaultBurst = 100                    // writes at once
	DefaultPace  = 500 * time.Millisecond // between two writes of one object

	// settle is what a change has before it is looked at: it is to be sent to the
	// proxies first, and most have acknowledged it by then, which saves a write.
	settle = 100 * time.Millisecond

	writeTimeout = 10 * time.Second
	longestRetry = 30 * time.Second
)

// Applier writes one status.
type Applier interface {
	// ApplyStatus makes the desired status the one that the API server has, leaves
	// what others wrote, and gives the object's new resourceVersion. The object must
	// be at d.ResourceVersion: otherwise it is another than the status speaks of.
	ApplyStatus(ctx context.Context, d Desired) (resourceVersion string, err error)
}

// Previous are the conditions that a Writer has written for an object, nil if none.
type Previous func(o report.Object, uid types.UID) []metav1.Condition

// WriterConfig of a Writer. Rate, Burst and Pace have defaults.
type WriterConfig struct {
	Applier Applier
	// Desired are the statuses of all objects; ok is false while they are not known.
	Desired func(Previous) (all []Desired, ok bool)
	// Changed gives a channel that is closed when Desired may give something new.
	Changed func() <-chan struct{}
	Log     *slog.Logger
	Rate    rate.Limit
	Burst   int
	Pace    time.Duration
}

// Writer keeps the statuses on the API server as they are desired. It writes
// nothing that the object has already, and of several states of one object only
// the newest.
type Writer struct {
	cfg     WriterConfig
	limiter *rate.Limiter
	objects map[report.Object]*written
}

// written is what the Writer knows of one object.
type written struct {
	uid types.UID
	// want is the state to be written; nil is none.
	want *Desired
	// body is want, encoded, and looked the object as it was when want was decided.
	body, looked string
	// applied is the newest that the object is known to have; seen is the object
	// in the snapshot when that became known. While it has not moved, nothing is written again.
	applied, seen string
	conditions    []metav1.Condition
	// version is the resourceVersion that the newest write gave, when the snapshot was at former.
	version, former string
	// texts are of the last look: most objects are as they were then.
	texts texts
	// due is when the next write may be at the earliest.
	due      time.Time
	failures int
}

// texts are what an object should have, and the object as it was when that was
// decided, both encoded.
type texts struct {
	written any    // that body is of
	version string // that seen is of

	body, seen string
}

// NewWriter has written nothing yet.
func NewWriter(cfg WriterConfig) *Writer {
	cfg.Rate, cfg.Burst, cfg.Pace = cmp.Or(cfg.Rate, DefaultRate), cmp.Or(cfg.Burst, DefaultBurst), cmp.Or(cfg.Pace, DefaultPace)
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Writer{cfg: cfg}
}

// Run writes until ctx ends: the context of being the leader. It starts from
// what the objects have, so that a new leader changes nothing that is right.
func (w *Writer) Run(ctx context.Context) {
	w.limiter, w.objects = rate.NewLimiter(w.cfg.Rate, w.cfg.Burst), map[report.Object]*written{}
	var pace Pace
	for ctx.Err() == nil {
		changed, began := w.cfg.Changed(), time.Now()
		all, ok := w.cfg.Desired(w.previous)
		if ok {
			w.take(all)
		}
		_, any := w.nextDue()
		look := pace.Next(began, any || !ok)
		w.write(ctx, changed, look)
		w.wait(ctx, changed, look)
	}
}

func (w *Writer) previous(o report.Object, uid types.UID) []metav1.Condition {
	if h := w.objects[o]; h != nil && h.uid == uid {
		return h.conditions
	}
	return nil
}

// take makes these the states to be written, where the objects have not got them.
func (w *Writer) take(all []Desired) {
	there := make(map[report.Object]bool, len(all))
	for _, d := range all {
		if d.Written == nil {
			continue
		}
		there[d.Object] = true
		h := w.objects[d.Object]
		if h == nil || h.uid != d.UID {
			h = &written{uid: d.UID}
			w.objects[d.Object] = h
		}
		h.texts.take(d)
		h.want = nil
		switch body, seen := h.texts.body, h.texts.seen; {
		case body == h.applied && seen == h.seen:
		case covers(encode(d.Live), body):
			h.applied, h.seen, h.conditions = body, seen, d.Conditions
		default:
			h.want, h.body, h.looked = &d, body, seen
		}
	}
	for o := range w.objects {
		if !there[o] {
			delete(w.objects, o)
		}
	}
}

// take encodes what is not as it was: of one resourceVersion an object is the same.
func (t *texts) take(d Desired) {
	if !reflect.DeepEqual(t.written, d.Written) {
		t.written, t.body = d.Written, encode(d.Written)
	}
	if t.version != d.ResourceVersion || d.ResourceVersion == "" {
		t.version, t.seen = d.ResourceVersion, d.ResourceVersion+" "+encode(d.Live)
	}
}

// write writes what is due, the longest due first, until nothing is, or there
// is something new and it is time to look at it.
func (w *Writer) write(ctx context.Context, changed <-chan struct{}, look time.Time) {
	var due []*written
	now := time.Now()
	for _, h := range w.objects {
		if h.want != nil && !h.due.After(now) {
			due = append(due, h)
		}
	}
	slices.SortFunc(due, func(a, b *written) int { return cmp.Or(a.due.Compare(b.due), a.want.Compare(b.want.Object)) })
	for _, h := range due {
		if w.limiter.Wait(ctx) != nil {
			return
		}
		w.apply(ctx, h)
		select {
		case <-changed:
			if time.Now().After(look) {
				return
			}
		default:
		}
	}
}

func (w *Writer) apply(ctx context.Context, h *written) {
	one, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	d := *h.want
	if d.ResourceVersion == h.former && h.version != "" {
		d.ResourceVersion = h.version // the snapshot has not seen the last write yet
	}
	version, err := w.cfg.Applier.ApplyStatus(one, d)
	switch {
	case err == nil:
		h.version, h.former = version, h.want.ResourceVersion
		h.applied, h.seen, h.conditions = h.body, h.looked, d.Conditions
		h.want, h.failures, h.due = nil, 0, time.Now().Add(w.cfg.Pace)
		return
	case ctx.Err() != nil:
		return
	case apierrors.IsNotFound(err) || apierrors.IsConflict(err): // gone, or changed meanwhile: the snapshot will tell
		h.due = time.Now().Add(w.cfg.Pace)
		return
	}
	h.failures++
	h.due = time.Now().Add(min(longestRetry, w.cfg.Pace<<min(h.failures-1, 16)))
	w.cfg.Log.Warn("status is not written", "object", d.String(), "failures", h.failures, "error", err)
}

// wait returns when there is something to look at or to write.
func (w *Writer) wait(ctx context.Context, changed <-chan struct{}, look time.Time) {
	if !clock.Pause(ctx, time.Until(look)) {
		return
	}
	var due <-chan time.Time
	if next, any := w.nextDue(); any {
		timer := time.NewTimer(time.Until(next))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-ctx.Done():
	case <-changed:
		clock.Pause(ctx, settle)
	case <-due:
	}
}

func (w *Writer) nextDue() (next time.Time, any bool) {
	for _, h := range w.objects {
		if h.want != nil && (!any || h.due.Before(next)) {
			next, any = h.due, true
		}
	}
	return next, any
}
