package crds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
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
		s.start(f)
		if s.attending.Load() {
			s.log.Info("the API server serves the kind now", "kind", f.gvk.Kind)
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

const (
	// againFirst and againAtMost are after how long a watch is tried again that
	// has ended, as client-go does it; after againReset it is the first time again.
	againFirst  = 800 * time.Millisecond
	againAtMost = 30 * time.Second
	againReset  = 2 * time.Minute
)

// start watches a kind that is served, until its epoch ends.
func (s *ClusterSource) start(f *feed) {
	silent := logr.Discard() // what fails is told by watchFailed
	ctx, cancel := context.WithCancel(klog.NewContext(s.ctx, silent))
	told := f.begin(cancel, s.poke)
	reflector := toolscache.NewReflectorWithOptions(s.lists(f), f.watch, told, toolscache.ReflectorOptions{Logger: &silent, Name: "crds"})
	failed := s.watchFailed(f)
	backoff := wait.Backoff{Duration: againFirst, Cap: againAtMost, Steps: math.MaxInt, Factor: 2, Jitter: 1}
	s.running.Go(func() {
		_ = backoff.DelayWithReset(clock.RealClock{}, againReset).Until(ctx, true, true, func(ctx context.Context) (bool, error) {
			if err := reflector.ListAndWatchWithContext(ctx); err != nil {
				failed(ctx, err)
			}
			return false, nil
		}) // ends with ctx
	})
}

// lists is how a kind is listed and watched.
func (s *ClusterSource) lists(f *feed) *toolscache.ListWatch {
	return &toolscache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			list, err := f.emptyList()
			if err != nil {
				return nil, err
			}
			return list, s.watching.List(ctx, list, &client.ListOptions{FieldSelector: f.selector, Limit: o.Limit, Continue: o.Continue, Raw: &o})
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (apiwatch.Interface, error) {
			list, err := f.emptyList()
			if err != nil {
				return nil, err
			}
			return s.watching.Watch(ctx, list, &client.ListOptions{FieldSelector: f.selector, Raw: &o})
		},
	}
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
		err := s.asking.Get(ctx, client.ObjectKey{Name: f.resource + "." + f.gvk.Group}, definition)
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

// watchFailed is told of each list and watch of a kind that has failed, and is
// tried again. What is news is told, once a minute.
func (s *ClusterSource) watchFailed(f *feed) func(context.Context, error) {
	var told string
	var at time.Time
	return func(ctx context.Context, err error) {
		switch {
		case ctx.Err() != nil, errors.Is(err, io.EOF), apierrors.IsResourceExpired(err), apierrors.IsGone(err):
			return // watches end, and what they missed is listed
		case apierrors.IsNotFound(err), meta.IsNoMatchError(err):
			s.suspect()
		}
		if now := time.Now(); err.Error() != told || now.Sub(at) >= complaintInterval {
			told, at = err.Error(), now
			s.log.Warn("a watch has failed and is tried again; what was known stays", "kind", f.gvk.Kind, "error", err)
		}
	}
}
