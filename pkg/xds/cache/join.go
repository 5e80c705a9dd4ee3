package cache

import (
	"cmp"
	"maps"
	"slices"

	"github.com/meshd-io/meshd/pkg/xds/envoy"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

// PublishParts is PublishChecked of parts of a translation, which may be shared
// with other keys. Parts may have a resource in common; they have it alike.
func (c *Cache) PublishParts(key scope.Key, parts []*Translation) {
	c.mu.RLock()
	var before entry
	if e := c.keys[key]; e != nil {
		before = entry{translation: e.translation, parts: e.parts}
	}
	c.mu.RUnlock()
	t, ok := before.patched(parts)
	if !ok {
		t = join(parts)
	}
	c.publish(key, t, parts)
}

// patched is the translation before with what is another in its parts. ok is
// false where they are not the same parts with the same names.
func (e *entry) patched(parts []*Translation) (t Translation, ok bool) {
	if len(parts) != len(e.parts) {
		return nil, false
	}
	t = maps.Clone(e.translation)
	for i, part := range parts {
		if part == e.parts[i] {
			continue
		}
		if !sameNames(*part, *e.parts[i]) {
			return nil, false
		}
		for typ, list := range *part {
			if sameList((*e.parts[i])[typ], list) {
				continue
			}
			if sameList(t[typ], e.translation[typ]) {
				t[typ] = slices.Clone(t[typ])
			}
			for _, r := range list {
				i, _ := slices.BinarySearchFunc(t[typ], r, compareNames)
				t[typ][i] = r
			}
		}
	}
	return t, true
}

func sameNames(a, b Translation) bool {
	if len(a) != len(b) {
		return false
	}
	for typ, list := range a {
		if !slices.EqualFunc(list, b[typ], func(x, y *Checked) bool { return x.name == y.name }) {
			return false
		}
	}
	return true
}

// join puts parts of a translation together.
func join(parts []*Translation) Translation {
	sizes := map[envoy.Type]int{}
	for _, part := range parts {
		for t, list := range *part {
			sizes[t] += len(list)
		}
	}
	out := make(Translation, len(sizes))
	for t, n := range sizes {
		out[t] = make([]*Checked, 0, n)
	}
	for _, part := range parts {
		for t, list := range *part {
			out[t] = append(out[t], list...)
		}
	}
	for t, list := range out {
		slices.SortFunc(list, compareNames)
		out[t] = slices.CompactFunc(list, func(a, b *Checked) bool { return a.name == b.name })
	}
	return out
}

func compareNames(a, b *Checked) int { return cmp.Compare(a.name, b.name) }
