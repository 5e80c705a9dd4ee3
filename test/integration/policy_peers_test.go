package integration

import (
	"net"
	"strings"
)

func testPeers(w *world) {
	w.part("modes", peerModes)
	w.part("ports", peerPorts)
	w.part("disabled", peersDisabled)
	w.part("older", peersOlder)
	w.part("mesh default", peersMeshDefault)
	w.part("last good", peersLastGood)
}

// from the mesh and from outside of it, to a port of the target.
func (w *world) reach(what, port string, inside, outside int) {
	w.Helper()
	url := "http://" + net.JoinHostPort(w.pod(w.ns, "target-").Address, port) + "/x"
	for pod, want := range map[string]int{alice: inside, outsider: outside} {
		if r := w.ask(pod, get(url))[0]; r.Code != want {
			w.Errorf("%s: %s to %s: %d %s %s, want %d", what, pod, port, r.Code, r.Error, r.Body, want)
		}
	}
}

// identified tells whether the target knows who alice is.
func (w *world) identified(url string) bool {
	w.Helper()
	r := w.ask(alice, get(url))[0]
	if r.Code != 200 {
		w.Errorf("%s: %d %s %s", url, r.Code, r.Error, r.Body)
	}
	return strings.Contains(r.Seen.Headers.Get("X-Forwarded-Client-Cert"), "/sa/alice")
}

const targetPods = `targetRefs: [{kind: Pod, selector: {matchLabels: {app: target}}}]`

func peerModes(w *world) {
	all := func(what string, outside int) {
		w.Helper()
		for _, port := range []string{"8080", "8081", "8082"} { // 8082 is declared nowhere
			w.reach(what, port, 200, outside)
		}
	}
	all("default", 0)
	w.with(peers("a", `{mode: Permissive}`), func() {
		all("permissive", 200)
		if !w.identified("http://target/x") {
			w.Error("permissive: the mesh is left although both are in it")
		}
		w.with(peers("b", `{mode: Strict, `+targetPods+`}`), func() { all("pod over namespace", 0) })
	})
	w.with(peers("a", `{mode: Strict}`)+peers("b", `{mode: Permissive, `+targetPods+`}`), func() { all("pod over namespace", 200) })
	w.with(peers("a", `{mode: Disable, `+targetPods+`}`), func() { all("disable", 200) })
	all("default again", 0)
}

func peerPorts(w *world) {
	w.with(peers("a", `{mode: Strict, `+targetPods+`, ports: [{port: 8081, mode: Permissive}, {port: 8082, mode: Disable}]}`), func() {
		w.reach("ports", "8080", 200, 0)
		w.reach("ports", "8081", 200, 200)
		w.reach("ports", "8082", 200, 200)
	})
	// A port's mode comes from who names it, also over the more specific object.
	w.with(peers("a", `{mode: Permissive, ports: [{port: 8081, mode: Strict}]}`)+peers("b", `{mode: Permissive, `+targetPods+`}`), func() {
		w.reach("named", "8080", 200, 200)
		w.reach("named", "8081", 200, 0)
	})
}

func peersDisabled(w *world) {
	x := get("http://target/x")
	w.with(peers("a", `{mode: Disable, `+targetPods+`}`), func() {
		w.becomes("nobody without TLS", false)
		w.with(authz("who", `{action: Allow, rules: [{sources: [{serviceAccount: {name: alice}}]}]}`), func() { w.verdicts(verdict{alice, x, 403}) })
		w.with(authz("who", `{action: Deny, rules: [{sources: [{serviceAccount: {name: alice}}]}]}`), func() { w.verdicts(verdict{alice, x, 200}) })
		w.with(authz("who", `{action: Deny, rules: [{to: [{paths: [/x]}]}]}`), func() { w.verdicts(verdict{alice, x, 403}) })
		w.with(authz("who", `{action: Allow, rules: [{sources: [{cidr: `+w.pod(w.ns, "alice-").Address+`/32}]}]}`), func() {
			w.verdicts(verdict{alice, x, 200}, verdict{bob, x, 403})
		})
	})
	w.becomes("somebody again", true)
}

// becomes waits for who alice is to the target. When a mode changes, each open
// connection may go on for one more request, and each of the proxy's workers
// has its own: only many answers in a row tell that none is left.
func (w *world) becomes(what string, identified bool) {
	w.Helper()
	const enough = 20
	inARow := 0
	w.eventually(what, func() bool {
		if inARow++; w.identified("http://target/x") != identified {
			inARow = 0
		}
		return inARow == enough
	}, func() string { return "" })
}

func peersOlder(w *world) {
	older := strings.Replace(peers("z-older", `{mode: Permissive}`), "metadata: {", `metadata: {creationTimestamp: "2020-02-02T20:20:20Z", `, 1)
	w.with(older, func() {
		w.with(peers("a-younger", `{mode: Strict}`), func() {
			w.reach("older", "8080", 200, 200)
			c := w.condition("PeerAuthentication", "a-younger", "Accepted")
			if c.Status != "True" || c.Reason != "Overridden" || !strings.Contains(c.Message, w.ns+"/z-older") {
				w.Errorf("%+v", c)
			}
		})
	})
}

func meshConfig(spec string) string {
	return "apiVersion: meshd.io/v1alpha1\nkind: MeshConfig\nmetadata: {name: default}\nspec: " + spec + "\n---\n"
}

func peersMeshDefault(w *world) {
	w.with(meshConfig(`{defaults: {peerAuthentication: Permissive, authorization: Deny}}`), func() {
		w.reach("deny by default", "8080", 403, 403)
		w.with(authz("x", `{action: Allow, rules: [{to: [{paths: [/x]}]}]}`), func() {
			w.reach("default", "8080", 200, 200)
			w.with(peers("a", `{mode: Strict}`), func() { w.reach("namespace over default", "8080", 200, 0) })
		})
		w.with(authz("audited", `{action: Allow, mode: Audit, rules: [{}]}`), func() { w.reach("an audit does not apply", "8080", 403, 403) })
		// Nor does a Deny open what is closed.
		w.with(authz("denying", `{action: Deny, rules: [{to: [{paths: [/other]}]}]}`), func() { w.reach("a Deny applies", "8080", 403, 403) })
	})
	w.reach("without", "8080", 200, 0)
	out := w.refused(meshConfig(`{trustDomain: elsewhere.example}`))
	c := w.condition("MeshConfig", "default", "Accepted")
	if c.Status != "False" || c.Reason != "Immutable" || !strings.Contains(c.Message, "trustDomain") || out.Refused[0].Field != "spec.trustDomain" {
		w.Errorf("%+v, %+v", c, out)
	}
	w.reach("another trust domain", "8080", 200, 0)
	if !w.identified("http://target/x") {
		w.Error("the trust domain has changed")
	}
	w.delete(meshConfig("{}"))
}

func peersLastGood(w *world) {
	w.with(peers("changed", `{mode: Permissive}`), func() {
		for _, bad := range []string{
			`{mode: Strict, rollout: WhenReady}`, `{mode: Never}`, `{mode: Strict, ports: []}`, `{mode: Strict, targetRefs: [{kind: Service, name: target}]}`,
			`{mode: Strict, ports: [{port: 80, mode: Strict}, {port: 80, mode: Disable}]}`, `{mode: Strict, targetRefs: [{kind: Pod, selector: {}}]}`,
		} {
			out := w.refused(peers("changed", bad))
			if out.Refused[0].Field == "" {
				w.Errorf("%s: %+v", bad, out)
			}
			w.reach("last good", "8080", 200, 200)
		}
	})
	w.refused(peers("never", `{mode: Permissive, rollout: WhenReady}`))
	w.reach("never good", "8080", 200, 0)
	w.delete(peers("never", `{}`))
}
