package server

import (
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
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
func (h *holdings) set(t envoy.Type, versions map[string]string) *cache.Set {
	return h.sets.get(fingerprint(t, versions), func() *cache.Set {
		return cache.HeldSet(cache.HeldID+h.next.Add(1), t, versions)
	})
}

// fingerprint is a hash that nobody can forge: a client must not be taken for
// another one by the words that it chooses.
func fingerprint(t envoy.Type, versions map[string]string) [sha256.Size]byte {
	h := sha256.New()
	var size [8]byte
	add := func(s string) {
		h.Write(binary.LittleEndian.AppendUint64(size[:0], uint64(len(s))))
		h.Write([]byte(s))
	}
	add(string(t))
	for _, name := range slices.Sorted(maps.Keys(versions)) {
		add(name)
		add(versions[name])
	}
	return [sha256.Size]byte(h.Sum(nil))
}
