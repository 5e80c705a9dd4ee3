package server

import (
	"crypto/sha256"
	"encoding/binary"
	"strings"
	"sync/atomic"

	"github.com/meshd-io/meshd/pkg/xds/cache"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

// holdings are what clients come back with. Replicas of a workload hold the
// same: they share one set, and with it what separates it from a snapshot.
type holdings struct {
	next atomic.Uint64
	sets weakly[[sha256.Size]byte, cache.Set]
}

// set is what a client says that it holds.
func (h *holdings) set(t envoy.Type, held versions) *cache.Set {
	return h.sets.get(fingerprint(t, held), func() *cache.Set {
		return cache.HeldSet(cache.HeldID+h.next.Add(1), t, func(yield func(name, version string) bool) {
			for _, v := range held {
				if !yield(strings.Clone(v.name), strings.Clone(v.version)) {
					return
				}
			}
		})
	})
}

// fingerprint is a hash that nobody can forge: a client must not be taken for
// another one by the words that it chooses.
func fingerprint(t envoy.Type, held versions) [sha256.Size]byte {
	size := len(t) + binary.MaxVarintLen16
	for _, v := range held {
		size += len(v.name) + len(v.version) + 2*binary.MaxVarintLen16
	}
	b := make([]byte, 0, size)
	add := func(s string) { b = append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	add(string(t))
	for _, v := range held {
		add(v.name)
		add(v.version)
	}
	return sha256.Sum256(b)
}
