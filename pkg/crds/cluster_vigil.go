package crds

import (
	"context"
	"errors"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshd-io/meshd/internal/clock"
)

// silence is after how long a watch that has told nothing is not simply believed.
const silence = 2 * time.Minute

// vigil looks whether watches tell what there is, until the source is stopped. A
// connection that is dead is found out by HTTP/2's pings; a watch that has lost
// its place in the API server, or on the way, looks like a kind of which nothing
// changes: configuration would not arrive, and nobody would know.
//
// Each kind is asked how new it is, by a list of one object. What a watch has not
// reached by the next time is held against the metadata of all objects, since
// watches need not tell of other kinds' versions; one that does not bring these
// either is begun anew.
func (s *ClusterSource) vigil() {
	asked := map[*feed]string{}
	for clock.Pause(s.ctx, s.silence) {
		for _, f := range s.feeds {
			if !f.quiet(asked[f]) || s.brings(f) {
				asked[f] = s.ask(f)
				continue
			}
			s.log.Warn("a watch does not tell what there is; it is begun anew", "kind", f.gvk.Kind)
			s.discovering.Lock()
			if !f.absent() {
				s.start(f)
			}
			s.discovering.Unlock()
			asked[f] = ""
		}
	}
}

// ask gives the version of a kind's list; "" where there is none, or it cannot be asked for.
func (s *ClusterSource) ask(f *feed) string {
	ctx, cancel := context.WithTimeout(s.ctx, discoveryTimeout)
	defer cancel()
	list := f.metadata()
	if f.absent() || s.asking.List(ctx, list, &client.ListOptions{FieldSelector: f.selector, Limit: 1}) != nil {
		return ""
	}
	return list.ResourceVersion
}

// metadata is an empty list of the kind's objects, without their content.
func (f *feed) metadata() *metav1.PartialObjectMetadataList {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(f.gvk.GroupVersion().WithKind(f.gvk.Kind + "List"))
	return list
}

// quiet reports whether the watch has not told of a version yet; "" is none.
func (f *feed) quiet(version string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state != live || version == "" {
		return false
	}
	order, err := resourceversion.CompareResourceVersion(f.newest, version)
	return err == nil && order < 0
}

// brings reports whether the watch brings every object within a moment. Where the API server cannot be asked, that is not known.
func (s *ClusterSource) brings(f *feed) bool {
	ctx, cancel := context.WithTimeout(s.ctx, s.silence/4)
	defer cancel()
	return !errors.Is(s.await(ctx, f), errUntold)
}
