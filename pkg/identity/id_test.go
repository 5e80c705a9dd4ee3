package identity

import (
	"strings"
	"testing"
)

func TestRoundTrip(t *testing.T) {
	for _, want := range []string{
		"spiffe://cluster.local/ns/shop/sa/accounts",
		"spiffe://example.org/ns/a/sa/b.c-d",
	} {
		id, err := Parse(want)
		if err != nil {
			t.Fatal(err)
		}
		if id.String() != want || id.SPIFFE().String() != want {
			t.Errorf("%s came back as %s", want, id)
		}
	}
}

func TestInvalidIsRefused(t *testing.T) {
	for _, uri := range []string{
		"", "spiffe://", "spiffe://cluster.local", "spiffe://cluster.local/ns/shop", "http://cluster.local/ns/a/sa/b",
		"spiffe://cluster.local/ns/shop/sa/", "spiffe://cluster.local/ns//sa/x", "spiffe://cluster.local/ns/Shop/sa/x",
		"spiffe://cluster.local/ns/shop/sa/x/y", "spiffe://cluster.local/sa/x/ns/y", "spiffe://cluster.local/ns/shop/sa/x?y",
		"spiffe://CLUSTER.local/ns/shop/sa/x", "spiffe://cluster.local/ns/" + strings.Repeat("a", 64) + "/sa/x",
		"spiffe://cluster.local/ns/a/sa/" + strings.Repeat("a", 254),
	} {
		if id, err := Parse(uri); err == nil {
			t.Errorf("%q was taken as %s", uri, id)
		}
	}
	if _, err := New("spiffe://cluster.local", "a", "b"); err == nil {
		t.Error("a URI was taken as a trust domain")
	}
}

func FuzzParse(f *testing.F) {
	f.Add("spiffe://cluster.local/ns/shop/sa/accounts")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := Parse(s)
		if err == nil && id.String() != s {
			t.Errorf("%q was taken as %q", s, id)
		}
	})
}
