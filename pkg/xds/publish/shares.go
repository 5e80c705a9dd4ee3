package publish

import (
	"slices"

	"github.com/meshd-io/meshd/pkg/memo"
	"github.com/meshd-io/meshd/pkg/xds/cache"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

// perShare is how many parts a share has.
const perShare = 32

// share is some of the parts that are a key's destinations.
type share struct {
	key    scope.Key
	number int
}

// shares are tables by which a key of many destinations, of which one has changed,
// looks at those of one share, and not at all. What they give adds a key's parts to others.
func (p *Publisher) shares(
	addresses *memo.Table[scope.Key, scope.Demand], parts *memo.Table[part, *cache.Translation],
) func(r *memo.Run, key scope.Key, to []*cache.Translation) []*cache.Translation {
	names := memo.NewTable(p.graph, func(r *memo.Run, key scope.Key) ([][]part, bool) {
		demanded, client := read(r, addresses, key), p.clients(r, key.Namespace)
		all := make([]part, 0, demanded.Len())
		for a := range demanded.All() {
			all = append(all, part{a, key.PodCertificate, client(a)})
		}
		return slices.Collect(slices.Chunk(all, perShare)), true
	})
	names.Compare(func(a, b [][]part) bool { return slices.EqualFunc(a, b, slices.Equal[[]part]) })
	add := func(r *memo.Run, some []part, to []*cache.Translation) []*cache.Translation {
		for _, of := range some {
			to = append(to, read(r, parts, of))
		}
		return to
	}
	shared := memo.NewTable(p.graph, func(r *memo.Run, of share) ([]*cache.Translation, bool) {
		all := read(r, names, of.key)
		if of.number >= len(all) {
			return nil, false
		}
		return add(r, all[of.number], make([]*cache.Translation, 0, perShare)), true
	})
	shared.Compare(slices.Equal)
	return func(r *memo.Run, key scope.Key, to []*cache.Translation) []*cache.Translation {
		all := read(r, names, key)
		if len(all) == 1 { // nothing would be saved
			return add(r, all[0], to)
		}
		for i := range all {
			to = append(to, read(r, shared, share{key, i})...)
		}
		return to
	}
}
