package integration

import (
	"encoding/json"
	"io"
	"strings"

	"github.com/meshd-io/meshd/pkg/lab"
)

// authorizeOpenConnection changes policies under a connection that stays open.
func authorizeOpenConnection(w *world) {
	in, toIn := io.Pipe()
	fromOut, out := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := w.Exec(w.Context(), w.in(alice), []string{"app", "ask"}, lab.Streams{In: in, Out: out, Err: io.Discard})
		done <- err
	}()
	enc, dec := json.NewEncoder(toIn), json.NewDecoder(fromOut)
	askFor := func(path string) reply {
		w.Helper()
		if err := enc.Encode(get("http://target" + path)); err != nil {
			w.Fatal(err)
		}
		var r reply
		if err := dec.Decode(&r); err != nil {
			w.Fatal(err)
		}
		return r
	}
	ask := func() reply { return askFor("/open") }
	want := func(code int, reused bool) {
		w.Helper()
		if r := ask(); r.Code != code || r.Reused != reused {
			w.Errorf("%d, reused %t: %s; want %d, %t", r.Code, r.Reused, r.Error, code, reused)
		}
	}
	want(200, false)
	for range 3 {
		w.with(authz("open", `{action: Deny, rules: [{to: [{paths: [/open]}]}]}`), func() { want(403, true) })
		want(200, true)
	}
	// What depends on the normalised path holds for connections that are older than the first path rule.
	w.with(authz("audited", `{action: Deny, mode: Audit, rules: [{to: [{paths: ["/closed/*"]}]}]}`), func() {
		if r := askFor("/x%2fclosed"); r.Code != 200 {
			w.Errorf("an audit changes a verdict: %+v", r)
		}
	})
	for range 3 {
		w.with(authz("open", `{action: Deny, rules: [{to: [{paths: ["/closed/*"]}]}]}`), func() {
			for range 3 {
				if r := askFor("/x%2fclosed"); r.Code != 400 && r.Code != 403 {
					w.Errorf("%%2f where paths are looked at: %+v", r)
				}
			}
		})
		if r := askFor("/x%2fclosed"); r.Code != 200 && r.Code != 400 {
			w.Errorf("%%2f where no paths are looked at: %+v", r)
		}
	}
	w.with(peers("open", `{mode: Permissive}`), func() { want(200, true) })
	if err := toIn.Close(); err != nil {
		w.Error(err)
	}
	if err := <-done; err != nil {
		w.Error(err)
	}
}

// What an object is changed into does not come into force if it is refused.
func authorizeLastGood(w *world) {
	good := authz("changed", `{action: Deny, rules: [{sources: [{serviceAccount: {name: alice}}]}]}`)
	x := get("http://target/x")
	w.with(good, func() {
		for _, bad := range []string{
			`{action: Deny}`,
			`{action: Deny, rules: [{sources: []}]}`,
			`{action: Deny, rules: [{sources: [{}]}]}`,
			`{action: Deny, rules: [{sources: [{spiffe: "spiffe://elsewhere/ns/x/sa/y"}]}]}`,
			`{action: Deny, rules: [{sources: [{jwt: {issuer: "https://x"}}]}]}`,
			`{action: Deny, targetRefs: [{kind: Namespace, name: features}], rules: [{}]}`,
			`{action: Deny, rules: [{sources: [{serviceAccount: {name: alice}, spiffe: "spiffe://cluster.local/ns/x/sa/y"}]}]}`,
		} {
			out := w.refused(authz("changed", bad))
			if len(out.Refused) != 1 || out.Refused[0].Field == "" || out.Refused[0].Reason == "" || out.Refused[0].Message == "" {
				w.Errorf("%s: %+v", bad, out)
			}
			w.verdicts(verdict{alice, x, 403}, verdict{bob, x, 200})
		}
	})
	w.verdicts(verdict{alice, x, 200})
	never := func(spec string, code int) {
		bad := authz("never", spec)
		out := w.refused(bad)
		if c := w.condition("AuthorizationPolicy", "never", "Accepted"); len(out.Refused) != 1 || c.Status != "False" || c.Reason != string(out.Refused[0].Reason) || !strings.Contains(c.Message, out.Refused[0].Field) {
			w.Errorf("%+v, %+v", out, c)
		}
		w.verdicts(verdict{alice, x, code}, verdict{bob, x, code})
		w.delete(bad)
		w.verdicts(verdict{alice, x, 200}, verdict{bob, x, 200})
	}
	never(`{action: Deny, rules: [{sources: [{spiffe: "spiffe://elsewhere/ns/x/sa/y"}]}]}`, 403)
	never(`{action: Allow, rules: [{}, {sources: [{spiffe: "spiffe://elsewhere/ns/x/sa/y"}]}]}`, 403)
}

func peers(name, spec string) string {
	return "apiVersion: meshd.io/v1alpha1\nkind: PeerAuthentication\nmetadata: {name: " + name + ", namespace: NS}\nspec: " + spec + "\n---\n"
}
