package acks

import (
	"cmp"
	"iter"
	"slices"

	"github.com/meshd-io/meshd/pkg/xds/envoy"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

// MaxLaggards bounds Progress.Laggards.
const MaxLaggards = 10

// maxMessages bounds Progress.Messages.
const maxMessages = 5

// Resource is a published resource that an object is an origin of (cache.Concerned).
type Resource struct {
	Type    envoy.Type
	Name    string
	Version string
	// Generation of the object that it was made from.
	Generation int64
	// Refused are an Envoy's words for a newer version, which was put aside; "" is none.
	Refused string
}

// Progress is how far the live proxies are that an object concerns.
type Progress struct {
	Total, Acknowledged, Rejected int
	// Laggards are the first proxies that have not acknowledged, by name.
	Laggards []string
	// Messages are Envoy's own words for what was rejected, distinct.
	Messages []string
}

// ProgressOf folds the Ledger for one object. A proxy is concerned when its key
// has a resource made from the object to which the proxy subscribes (of the
// types that are asked for by name), and has acknowledged the object when it
// holds all of those at their current versions, made from the given generation
// or a later one. Equal bytes have equal versions, so a generation that changes
// no byte is acknowledged at once. concerned is called once for each key.
func ProgressOf(l Ledger, concerned func(scope.Key) []Resource, generation int64) Progress {
	return ProgressAmong(l, func(yield func(int, []Resource) bool) {
		for i, key := range l.Keys() {
			if !yield(i, concerned(key)) {
				return
			}
		}
	}, generation)
}

// ProgressAmong is ProgressOf where it is known which keys are concerned: their
// places in l.Keys(), each once, with their resources. It costs nothing for the others.
func ProgressAmong(l Ledger, concerned iter.Seq2[int, []Resource], generation int64) Progress {
	var p Progress
	var said words
	of := l.stand().of
	for i, rs := range concerned {
		for _, at := range of[i] {
			p.add(at, rs, generation, &said)
		}
	}
	p.Messages = said.first(maxMessages)
	return p
}

func (p *Progress) add(at *point, rs []Resource, generation int64, said *words) {
	var any, behind, refused bool
	for i, r := range rs {
		held, subscribes := at.holds(r)
		if !subscribes {
			continue
		}
		any = true
		if r.Refused != "" {
			refused = true
			said.add(word{r.Refused, at.proxies[0].name, i})
		}
		if held != r.Version || r.Generation < generation {
			behind = true
		}
	}
	switch {
	case !any:
		return
	case refused:
		p.Rejected += len(at.proxies)
	case !behind:
		p.Acknowledged += len(at.proxies)
	}
	p.Total += len(at.proxies)
	if refused || behind {
		for _, n := range at.proxies {
			p.lags(n.name)
		}
	}
}

func (p *Progress) lags(name string) {
	last := len(p.Laggards) - 1
	if len(p.Laggards) == MaxLaggards {
		if name > p.Laggards[last] {
			return
		}
		p.Laggards = p.Laggards[:last]
	}
	i, _ := slices.BinarySearch(p.Laggards, name)
	p.Laggards = slices.Insert(p.Laggards, i, name)
}

// word is a message, with the first proxy that it is about and its place among that one's.
type word struct {
	message, proxy string
	place          int
}

func (a word) compare(b word) int { return cmp.Or(cmp.Compare(a.proxy, b.proxy), a.place-b.place) }

// words are distinct messages.
type words []word

func (ws *words) add(w word) {
	i := slices.IndexFunc(*ws, func(other word) bool { return other.message == w.message })
	switch {
	case i < 0:
		*ws = append(*ws, w)
	case w.compare((*ws)[i]) < 0:
		(*ws)[i] = w
	}
}

// first are the first n messages, in the order of proxies.
func (ws words) first(n int) []string {
	slices.SortFunc(ws, word.compare)
	var out []string
	for _, w := range ws[:min(n, len(ws))] {
		out = append(out, w.message)
	}
	return out
}
