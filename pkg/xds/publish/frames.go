package publish

import (
	"maps"

	"github.com/meshd-io/meshd/pkg/memo"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/xds/cache"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

// frames are the parts of destinations without their endpoints, which change
// most often and are the least of them.
func (p *Publisher) frames(destination func(*memo.Run, part) *scope.Destination) *memo.Table[part, *cache.Translation] {
	shapes := memo.NewTable(p.graph, func(r *memo.Run, of part) (*scope.Destination, bool) {
		return shapeOf(destination(r, of)), true
	})
	frames := memo.NewTable(p.graph, func(r *memo.Run, of part) (*cache.Translation, bool) {
		return p.check(envoy.Destination(read(r, shapes, of), of.podCertificate)), true
	})
	frames.Compare(never)
	return frames
}

// shapeOf is a destination as it would be without endpoints.
func shapeOf(d *scope.Destination) *scope.Destination {
	out := *d
	out.Backends = make([]*model.Backend, len(d.Backends))
	for i, b := range d.Backends {
		shape := *b
		shape.Endpoints = nil
		out.Backends[i] = &shape
	}
	return &out
}

// filled is a destination's frame with its endpoints.
func (p *Publisher) filled(frame *cache.Translation, d *scope.Destination) *cache.Translation {
	if len((*frame)[envoy.EndpointType]) == 0 {
		return frame
	}
	out := maps.Clone(*frame)
	maps.Copy(out, p.cache.Check(envoy.Resources{envoy.EndpointType: envoy.Assignments(d)}))
	return &out
}
