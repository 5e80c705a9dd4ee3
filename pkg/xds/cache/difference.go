package cache

import (
	"iter"

	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

// difference is what of a translation is to be looked at, because it is not as
// in the one before.
type difference struct {
	put  map[envoy.Type][]*Checked
	gone map[envoy.Type][]string
}

// differenceTo compares with the translation before. Where names have gone, or
// something is put aside, everything is looked at: what a resource refers to
// may have gone, or have come.
func (e *entry) differenceTo(t Translation) difference {
	d := difference{put: map[envoy.Type][]*Checked{}, gone: map[envoy.Type][]string{}}
	aside := false
	for typ, list := range t {
		if sameList(e.translation[typ], list) {
			continue // what has not passed in it is among those that failed
		}
		for i, r := range list {
			aside = aside || r.err != nil || i > 0 && list[i-1].name == r.name
		}
		put, gone := compare(e.translation[typ], list)
		if len(put) > 0 {
			d.put[typ] = put
		}
		if len(gone) > 0 {
			d.gone[typ] = gone
		}
	}
	for typ, list := range e.translation {
		if _, there := t[typ]; !there {
			_, d.gone[typ] = compare(list, nil)
		}
	}
	if aside || len(d.gone) > 0 || e.anyFailed() {
		d.put = t
	}
	return d
}

// sameList reports whether two lists, which nobody changes, are one.
func sameList(a, b []*Checked) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// compare walks through two lists that are sorted by name.
func compare(before, after []*Checked) (put []*Checked, gone []string) {
	var last *Checked // that both have
	for len(before) > 0 {
		switch {
		case len(after) > 0 && before[0] == after[0]:
			last, before = before[0], before[1:]
		case last != nil && before[0].name == last.name: // there had been two
			before = before[1:]
			continue
		case len(after) == 0 || before[0].name < after[0].name:
			gone = append(gone, before[0].name)
			before = before[1:]
			continue
		case before[0].name > after[0].name:
			put = append(put, after[0])
		default:
			if !after[0].same(before[0]) {
				put = append(put, after[0])
			}
			for len(before) > 0 && before[0].name == after[0].name { // there may have been two
				before = before[1:]
			}
		}
		after = after[1:]
	}
	return append(put, after...), gone
}

// anyFailed reports whether something has not passed the gate.
func (e *entry) anyFailed() bool {
	if e.snapshot == nil {
		return false
	}
	for _, set := range e.snapshot.sets {
		for _, a := range set.aside {
			if !a.ByEnvoy {
				return true
			}
		}
	}
	return false
}

// names are those whose slots have changed.
func (d difference) names() map[envoy.Type][]string {
	out := make(map[envoy.Type][]string, len(d.put)+len(d.gone))
	for t, list := range d.put {
		for _, r := range list {
			out[t] = append(out[t], r.name)
		}
	}
	for t, list := range d.gone {
		out[t] = append(out[t], list...)
	}
	return out
}

// slots are those that are put.
func (d difference) slots(e *entry) iter.Seq[*slot] {
	return func(yield func(*slot) bool) {
		for t, list := range d.put {
			for _, r := range list {
				if !yield(e.slots[t][r.name]) {
					return
				}
			}
		}
	}
}
