package cache

// HasAside reports whether anything of the newest translation is put aside.
// Another key with the same translation would not know of it, nor have the last
// good version.
func (s *Snapshot) HasAside() bool {
	if s == nil {
		return false
	}
	for _, set := range s.sets {
		if len(set.aside) > 0 {
			return true
		}
	}
	return false
}
