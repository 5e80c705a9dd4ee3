package crds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// absentInterval is how often the API server is asked for kinds that it did not serve.
	absentInterval = 5 * time.Second
	// discoveryTimeout bounds asking once.
	discoveryTimeout = 10 * time.Second
	// complaintInterval is how often a watch that keeps failing in the same way is told of.
	complaintInterval = time.Minute
)

// attend watches what the API server serves, until the source is stopped.
func (s *ClusterSource) attend() {
	s.attending.Store(true)
	again := time.NewTicker(absentInterval)
	defer again.Stop()
	for {
		var err error
		select {
		case <-s.ctx.Done():
			return
		case <-s.suspects:
			err = s.checkGone(s.ctx)
		case <-again.C:
			if slices.ContainsFunc(s.feeds, (*feed).absent) {
				err = s.discover(s.ctx)
			}
		}
		if err != nil && s.ctx.Err() == nil {
			s.log.Warn("the API server cannot be asked what it serves; what was known stays", "error", err)
		}
	}
}

// discover begins to watch the kinds that are served and are not watched yet.
func (s *ClusterSource) discover(ctx context.Context) error {
	s.discovering.Lock()
	defer s.discovering.Unlock()
	ctx, cancel := context.WithTimeout(ctx, discoveryTimeout)
	defer cancel()
	served := map[schema.GroupVersion]map[string]bool{}
	for _, f := range s.feeds {
		if !f.absent() {
			continue
		}
		gv := f.gvk.GroupVersion()
		if _, asked := served[gv]; !asked {
			resources, err := s.served(ctx, gv)
			if err != nil {
				return err
			}
			served[gv] = resources
		}
		if !served[gv][f.resource] {
			continue
		}
		if err := s.start(f); err != nil {
			return err
		}
	}
	return nil
}

// served are the resources of a group's version.
func (s *ClusterSource) served(ctx context.Context, gv schema.GroupVersion) (map[string]bool, error) {
	list, err := s.discovery.ServerResourcesForGroupVersionWithContext(ctx, gv.String())
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("resources of %s: %w", gv, err)
	}
	out := make(map[string]bool, len(list.APIResources))
	for _, r := range list.APIResources {
		out[r.Name] = true
	}
	return out, nil
}

// start watches a kind that is served, by a cache of its own, so that it can be ended.
func (s *ClusterSource) start(f *feed) error {
	var never time.Duration
	informers, err := cache.New(s.config, cache.Options{
		HTTPClient: s.watching, Scheme: shared().scheme, Mapper: s.mapper, SyncPeriod: &never,
		DefaultTransform: f.transform, DefaultFieldSelector: f.selector, DefaultWatchErrorHandler: s.watchFailed(f),
	})
	if err != nil {
		return fmt.Errorf("watch %s: %w", f.gvk.Kind, err)
	}
	ctx, cancel := context.WithCancel(s.ctx)
	informer, err := informers.GetInformer(ctx, f.watch, cache.BlockUntilSynced(false))
	if err != nil {
		cancel()
		if meta.IsNoMatchError(err) {
			return nil // served for a moment only; it stays absent
		}
		return fmt.Errorf("watch %s: %w", f.gvk.Kind, err)
	}
	epoch, ended := f.begin(cancel)
	told, err := informer.AddEventHandler(f.handler(epoch, s.poke))
	if err != nil {
		f.drop()
		return fmt.Errorf("watch %s: %w", f.gvk.Kind, err)
	}
	s.running.Go(func() { _ = informers.Start(ctx) }) // fails only when started twice
	s.running.Go(func() {
		select {
		case <-told.HasSyncedChecker().Done():
			f.synced(epoch)
			s.poke()
		case <-ended:
		case <-ctx.Done():
		}
	})
	if epoch > 1 || s.attending.Load() {
		s.log.Info("the API server serves the kind now", "kind", f.gvk.Kind)
	}
	return nil
}

// suspect has the source find out whether a kind is gone.
func (s *ClusterSource) suspect() {
	select {
	case s.suspects <- struct{}{}:
	default:
	}
}

// checkGone drops the kinds whose CustomResourceDefinition is known not to
// be there. That a watch or discovery does not know a kind is no such
// knowledge: an API server that is coming up may say so.
func (s *ClusterSource) checkGone(ctx context.Context) error {
	s.discovering.Lock()
	defer s.discovering.Unlock()
	ctx, cancel := context.WithTimeout(ctx, discoveryTimeout)
	defer cancel()
	for _, f := range s.feeds {
		if !f.defined || f.absent() {
			continue
		}
		definition := &metav1.PartialObjectMetadata{}
		definition.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"})
		err := s.client.Get(ctx, client.ObjectKey{Name: f.resource + "." + f.gvk.Group}, definition)
		switch {
		case err == nil:
			continue
		case !apierrors.IsNotFound(err):
			return fmt.Errorf("definition of %s: %w", f.gvk.Kind, err)
		}
		f.drop()
		s.log.Warn("the kind's definition has been deleted, and all its objects with it", "kind", f.gvk.Kind)
		s.poke()
	}
	return nil
}

// watchFailed is told of each watch of a kind that has ended. The informer
// tries again by itself; what is news is told, once a minute.
func (s *ClusterSource) watchFailed(f *feed) toolscache.WatchErrorHandlerWithContext {
	var told string
	var at time.Time
	return func(ctx context.Context, _ *toolscache.Reflector, err error) { // never called twice at a time
		switch {
		case ctx.Err() != nil, errors.Is(err, io.EOF), apierrors.IsResourceExpired(err), apierrors.IsGone(err):
			return // watches end, and what they missed is listed
		case apierrors.IsNotFound(err):
			s.suspect()
		}
		if now := time.Now(); err.Error() != told || now.Sub(at) >= complaintInterval {
			told, at = err.Error(), now
			s.log.Warn("a watch has failed and is tried again; what was known stays", "kind", f.gvk.Kind, "error", err)
		}
	}
}
