package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"

	"github.com/meshd-io/meshd/internal/clock"
	"github.com/meshd-io/meshd/pkg/injector"
)

const (
	// FieldManager owns what meshd writes of a gateway's objects.
	FieldManager = "meshd-gateway"
	// replicasManager owns spec.replicas alone, and only until somebody else
	// sets it: an autoscaler, or a user.
	replicasManager = "meshd-gateway-replicas"

	// applyPace is the least time between two looks, and retryAfter that after a failure.
	applyPace    = time.Second
	retryAfter   = 5 * time.Second
	applyTimeout = 30 * time.Second
)

// Wanted is what should run.
type Wanted struct {
	// Ingress: the shared gateway of all Ingresses is needed.
	Ingress bool
	Config  injector.Config
	// Owner takes the objects with it when it is deleted; nil is nobody.
	Owner *metav1.OwnerReference
}

// ApplierConfig of an Applier.
type ApplierConfig struct {
	Client dynamic.Interface
	// Namespace is meshd's own, where gateways run.
	Namespace string
	// Replicas that a gateway has until somebody else scales it; 0 is 1.
	Replicas int32
	// Wanted now; ok is false while that is not known.
	Wanted func() (w Wanted, ok bool)
	// Changed gives a channel that is closed when Wanted may give something new.
	Changed func() <-chan struct{}
	Log     *slog.Logger
}

// Applier keeps the gateways' objects on the API server as they are wanted. It
// mends what somebody else changes, deletes only what it has made, and writes
// nothing that is there already.
type Applier struct {
	cfg ApplierConfig
	// applied is what this Applier has written last of an object, by kind.
	applied map[string]string
}

// NewApplier has applied nothing yet.
func NewApplier(cfg ApplierConfig) *Applier {
	cfg.Replicas = max(cfg.Replicas, 1)
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Applier{cfg: cfg}
}

// Run applies until ctx ends: the context of being the leader.
func (a *Applier) Run(ctx context.Context) error {
	a.applied = map[string]string{}
	seen := newLive(a.cfg.Client, a.cfg.Namespace)
	defer seen.stop()
	if !seen.start(ctx) {
		return nil // asked to end
	}
	for {
		changed, again := a.cfg.Changed(), (<-chan time.Time)(nil)
		if w, ok := a.cfg.Wanted(); ok {
			if err := a.turn(ctx, w, seen); err != nil && ctx.Err() == nil {
				a.cfg.Log.Warn("gateway is not as it should be; trying again", "error", err)
				again = time.After(retryAfter)
			}
		}
		if !clock.Pause(ctx, applyPace) {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-seen.moved:
		case <-again:
		}
	}
}

// turn makes the objects what is wanted.
func (a *Applier) turn(ctx context.Context, w Wanted, seen *live) error {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	if !w.Ingress {
		return a.remove(ctx, seen)
	}
	wanted, err := objects(w, a.cfg.Namespace)
	if err != nil {
		return err
	}
	var failed []error
	for _, o := range wanted {
		failed = append(failed, a.apply(ctx, o, seen.get(o.GetKind())))
	}
	return errors.Join(append(failed, a.scale(ctx, seen.get("Deployment")))...)
}

// apply writes one object, if it is not there as it is wanted.
func (a *Applier) apply(ctx context.Context, o, has *unstructured.Unstructured) error {
	text, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("%s %s: %w", o.GetKind(), o.GetName(), err)
	}
	if has != nil && a.applied[o.GetKind()] == string(text) && contains(has.Object, o.Object) {
		return nil
	}
	if _, err := a.client(o.GetKind()).Apply(ctx, o.GetName(), o, metav1.ApplyOptions{FieldManager: FieldManager, Force: true}); err != nil {
		return fmt.Errorf("apply %s %s: %w", o.GetKind(), o.GetName(), err)
	}
	a.applied[o.GetKind()] = string(text)
	return nil
}

// scale sets the replicas of a Deployment for as long as nobody else has. They
// have a field manager of their own: left out by the one that owns the rest,
// they would fall back to 1 when an autoscaler takes them over.
func (a *Applier) scale(ctx context.Context, has *unstructured.Unstructured) error {
	if has == nil {
		return nil // just applied: its event comes
	}
	n, _, _ := unstructured.NestedInt64(has.Object, "spec", "replicas")
	if n == int64(a.cfg.Replicas) || scaledByOthers(has) {
		return nil
	}
	o := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"replicas": int64(a.cfg.Replicas)}}}
	o.SetGroupVersionKind(has.GroupVersionKind())
	o.SetNamespace(has.GetNamespace())
	o.SetName(has.GetName())
	o.SetUID(has.GetUID())
	_, err := a.client(has.GetKind()).Apply(ctx, has.GetName(), o, metav1.ApplyOptions{FieldManager: replicasManager})
	if err != nil && !apierrors.IsConflict(err) { // somebody else has just scaled it, or it is gone
		return fmt.Errorf("scale %s: %w", has.GetName(), err)
	}
	return nil
}

// scaledByOthers reports whether somebody but meshd owns spec.replicas.
func scaledByOthers(o *unstructured.Unstructured) bool {
	for _, m := range o.GetManagedFields() {
		if m.Manager == replicasManager || m.FieldsV1 == nil {
			continue
		}
		var fields struct {
			Spec map[string]any `json:"f:spec"`
		}
		if json.Unmarshal(m.FieldsV1.GetRawBytes(), &fields) != nil {
			continue
		}
		if _, owns := fields.Spec["f:replicas"]; owns {
			return true
		}
	}
	return false
}

// remove deletes what this field manager has made.
func (a *Applier) remove(ctx context.Context, seen *live) error {
	var failed []error
	clear(a.applied)
	for _, kind := range kinds() {
		o := seen.get(kind.Kind)
		if o == nil || o.GetDeletionTimestamp() != nil || !made(o) {
			continue
		}
		uid, background := o.GetUID(), metav1.DeletePropagationBackground
		err := a.client(kind.Kind).Delete(ctx, o.GetName(), metav1.DeleteOptions{
			Preconditions: &metav1.Preconditions{UID: &uid}, PropagationPolicy: &background})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			failed = append(failed, fmt.Errorf("delete %s %s: %w", kind.Kind, o.GetName(), err))
		}
	}
	return errors.Join(failed...)
}

func made(o *unstructured.Unstructured) bool {
	for _, m := range o.GetManagedFields() {
		if m.Manager == FieldManager && m.Operation == metav1.ManagedFieldsOperationApply {
			return true
		}
	}
	return false
}

func (a *Applier) client(kind string) dynamic.ResourceInterface {
	return a.cfg.Client.Resource(resource(kind)).Namespace(a.cfg.Namespace)
}

// contains reports whether everything of want is in has. Entries of lists that
// have names are looked for by them; what others add is left to them.
func contains(has, want any) bool {
	switch w := want.(type) {
	case map[string]any:
		h, ok := has.(map[string]any)
		for k, v := range w {
			if !ok || !contains(h[k], v) {
				return false
			}
		}
		return ok
	case []any:
		h, ok := has.([]any)
		if !ok || len(h) != len(w) {
			return false
		}
		for i, v := range w {
			if !contains(h[i], v) && !named(h, v) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(has, want)
}

// named reports whether a list has an entry of the wanted one's name that
// contains it; mounts of one volume share a name.
func named(has []any, want any) bool {
	fields, ok := want.(map[string]any)
	if !ok || fields["name"] == nil {
		return false
	}
	return slices.ContainsFunc(has, func(h any) bool {
		f, ok := h.(map[string]any)
		return ok && f["name"] == fields["name"] && contains(f, fields)
	})
}
