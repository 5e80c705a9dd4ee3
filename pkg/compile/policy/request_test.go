package policy

import (
	"strings"
	"testing"
)

// FuzzPathPattern: what is taken reads back as it was written, so that no
// pattern silently means another one.
func FuzzPathPattern(f *testing.F) {
	for _, s := range []string{"/", "/*", "/loans", "/loans/", "/loans/*", "/users/{id}/loans", "/a%20b", "//", "/..", "/a*", "/{}", "/%2f", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := pathPattern(text)
		if err != nil {
			return
		}
		back := "/" + strings.Join(p.Segments, "/")
		if p.Prefix {
			back = strings.TrimSuffix(back, "/") + "/*"
		}
		var want []string
		for s := range strings.SplitSeq(text, "/") {
			if strings.HasPrefix(s, "{") {
				s = "{}"
			}
			want = append(want, s)
		}
		if back != strings.Join(want, "/") {
			t.Errorf("%q reads back as %q", text, back)
		}
		for _, s := range p.Segments[:max(0, len(p.Segments)-1)] {
			if s == "" || s == "." || s == ".." {
				t.Errorf("%q has segment %q, which no normalised path has", text, s)
			}
		}
	})
}
