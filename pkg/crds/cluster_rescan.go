package crds

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// relistPause is how long Rescan waits for the watches before it looks whether
// what it waits for is still there.
const relistPause = time.Second

// errUntold: the API server has objects that the watches have not told of.
var errUntold = errors.New("not all that there is has been told")

// Rescan returns once all that is in the API server at the call has been given
// to Run's take: it lists the metadata of every kind, and waits until the
// watches have told all of it. It waits for Run to begin, and fails while the
// API server cannot be reached. It may not be called from take.
func (s *ClusterSource) Rescan(ctx context.Context) error { return s.await(ctx, s.feeds...) }

// await is Rescan of some kinds.
func (s *ClusterSource) await(ctx context.Context, feeds ...*feed) error {
	b := &barrier{met: make(chan struct{})}
	if err := s.list(ctx, b, feeds); err != nil {
		return fmt.Errorf("rescan: %w", err)
	}
	s.mu.Lock()
	s.barriers = append(s.barriers, b)
	s.mu.Unlock()
	defer s.forget(b)
	s.poke()
	again := time.NewTicker(relistPause)
	defer again.Stop()
	for {
		select {
		case <-b.met:
			return nil
		case <-s.stopped:
			return ErrStopped
		case <-ctx.Done():
			return fmt.Errorf("rescan: %w: %w", errUntold, ctx.Err())
		case <-again.C:
			if err := s.list(ctx, b, feeds); err != nil {
				return fmt.Errorf("rescan: %w", err)
			}
			s.poke()
		}
	}
}

// barrier is what a Rescan waits for.
type barrier struct {
	met chan struct{} // closed when there is nothing left

	mu    sync.Mutex
	kinds map[*feed]*listing
}

// listing is what a kind had when it was listed. It only ever loses objects.
type listing struct {
	// version of the list: what is not in it and was seen before is gone.
	version string
	objects map[types.NamespacedName]string // resourceVersions
}

// list fills a barrier; a further call takes out what has been deleted since.
func (s *ClusterSource) list(ctx context.Context, b *barrier, feeds []*feed) error {
	if err := s.discover(ctx); err != nil {
		return err
	}
	for _, f := range feeds {
		if f.absent() {
			continue
		}
		list := f.metadata()
		err := s.asking.List(ctx, list, &client.ListOptions{FieldSelector: f.selector})
		switch {
		case apierrors.IsNotFound(err) || meta.IsNoMatchError(err):
			if err := s.checkGone(ctx); err != nil {
				return err
			}
			continue
		case err != nil:
			return err
		}
		b.narrow(f, list)
	}
	return nil
}

func (b *barrier) narrow(f *feed, list *metav1.PartialObjectMetadataList) {
	now := make(map[types.NamespacedName]string, len(list.Items))
	for i := range list.Items {
		now[client.ObjectKeyFromObject(&list.Items[i])] = list.Items[i].ResourceVersion
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.kinds == nil {
		b.kinds = map[*feed]*listing{}
	}
	l := b.kinds[f]
	if l == nil {
		b.kinds[f] = &listing{version: list.ResourceVersion, objects: now}
		return
	}
	for name := range l.objects {
		if _, there := now[name]; !there {
			delete(l.objects, name)
		}
	}
}

// reached reports whether the rows are as new as what was listed. Only the writer calls it.
func (b *barrier) reached() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for f, l := range b.kinds {
		if !l.reached(f) {
			return false
		}
	}
	return true
}

func (l *listing) reached(f *feed) bool {
	f.mu.Lock()
	state := f.state
	f.mu.Unlock()
	if state == absent {
		return true // its objects went with its definition
	}
	if state == reading {
		return false
	}
	found := 0
	for _, r := range f.rows {
		wanted, listed := l.objects[r.NamespacedName]
		if listed {
			found++
		} else {
			wanted = l.version // an older object is gone by now
		}
		if order, err := resourceversion.CompareResourceVersion(r.version, wanted); err != nil || order < 0 {
			return false
		}
	}
	return found == len(l.objects)
}

// release lets the Rescans go whose objects have been given to take.
func (s *ClusterSource) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.barriers = slices.DeleteFunc(s.barriers, func(b *barrier) bool {
		reached := b.reached()
		if reached {
			close(b.met)
		}
		return reached
	})
}

func (s *ClusterSource) forget(b *barrier) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.barriers = slices.DeleteFunc(s.barriers, func(other *barrier) bool { return other == b })
}
