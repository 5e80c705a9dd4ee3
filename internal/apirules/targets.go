package apirules

// targetRefs: what policies may target.
func targetRefs() []Table {
	with := func(ref string) string { return "{mode: Strict, targetRefs: " + ref + "}" }
	const at = "spec.targetRefs[0]"
	return []Table{
		{"PeerAuthentication", []Rule{
			{Spec: with("[{kind: Namespace}]")},
			{Spec: with("[{kind: Namespace, name: default}]")},
			{Spec: with("[{kind: Pod, selector: {matchLabels: {app: loans}}}]")},
			{Spec: with("[{kind: Pod, selector: {matchExpressions: [{key: app, operator: In, values: [a, b]}]}}]")},
			{with("[]"), "spec.targetRefs", "at least 1"},
			{with("[{kind: Service, name: x}]"), at + ".kind", "Namespace or Pod"},
			{with("[{kind: Gateway, name: x}]"), at + ".kind", "Namespace or Pod"},
			{with("[{kind: pod, selector: {matchLabels: {app: x}}}]"), at + ".kind", "Namespace or Pod"},
			{with("[{kind: Pod}]"), at, "takes a selector"},
			{with("[{kind: Pod, name: x}]"), at, "takes a selector"},
			{with("[{kind: Pod, name: x, selector: {matchLabels: {app: loans}}}]"), at, "takes a selector and no name"},
			{with("[{kind: Namespace, selector: {matchLabels: {app: loans}}}]"), at, "other kinds take no selector"},
			{with("[{kind: Pod, selector: {}}]"), at, "empty selector"},
			{with("[{kind: Pod, selector: {matchLabels: {}}}]"), at, "empty selector"},
			{with("[{kind: Pod, selector: {matchExpressions: []}}]"), at, "empty selector"},
			{with("[{kind: Pod, selector: {matchLabels: {a: b}, matchExpressions: []}}]"), at, "empty selector"},
			{with("[{kind: Namespace, name: ''}]"), at + ".name", "at least 1"},
			{with("[{kind: Namespace, name: Bad_Name}]"), at + ".name", "should match"},
			{with("[{kind: Namespace, group: apps}]"), at, "group"},
			{Spec: with("[{kind: Namespace, group: ''}]")},
			{with("[{kind: Namespace, sectionName: a}]"), at, "sectionName"},
			{with("[{name: x}]"), at + ".kind", "Required"},
			{with("[{kind: Namespace, namespace: other}]"), at + ".namespace", "no field"},
		}},
		{"TrafficPolicy", []Rule{
			{Spec: "{targetRefs: [{kind: HTTPRoute, name: r, sectionName: rule-1, group: gateway.networking.k8s.io}]}"},
			{Spec: "{targetRefs: [{kind: GRPCRoute, name: r}]}"},
			{Spec: "{targetRefs: [{kind: Gateway, name: r}]}"},
			{Spec: "{targetRefs: [{kind: Namespace}]}"},
			{Spec: "{targetRefs: [{kind: Service, name: a}, {kind: Service, name: b}]}"},
			{"{}", "spec.targetRefs", "Required"},
			{"{targetRefs: [{kind: Service}]}", at, "a name is needed"},
			{"{targetRefs: [{kind: Service, name: s, sectionName: x}]}", at, "sectionName"},
			{"{targetRefs: [{kind: HTTPRoute, name: s, group: networking.k8s.io}]}", at, "group"},
			{"{targetRefs: [{kind: Pod, selector: {matchLabels: {a: b}}}]}", at + ".kind", "kind must be"},
		}},
	}
}

// peerAuthentications: modes and ports.
func peerAuthentications() []Table {
	return []Table{
		{"PeerAuthentication", []Rule{
			{Spec: "{mode: Strict}"},
			{Spec: "{mode: Permissive, rollout: Immediate}"},
			{Spec: "{mode: Disable, ports: [{port: 1, mode: Strict}, {port: 65535, mode: Permissive}]}"},
			{"{}", "spec.mode", "Required"},
			{"{mode: strict}", "spec.mode", "Unsupported"},
			{"{mode: ''}", "spec.mode", "Unsupported"},
			{"{mode: Strict, ports: []}", "spec.ports", "at least 1"},
			{"{mode: Strict, ports: [{port: 0, mode: Strict}]}", "spec.ports[0].port", "greater than or equal to 1"},
			{"{mode: Strict, ports: [{port: 65536, mode: Strict}]}", "spec.ports[0].port", "less than or equal to 65535"},
			{"{mode: Strict, ports: [{port: 80}]}", "spec.ports[0].mode", "Required"},
			{"{mode: Strict, ports: [{port: http, mode: Strict}]}", "spec.ports[0].port", "integer"},
			{"{mode: Strict, ports: [{port: 80, mode: Strict}, {port: 80, mode: Disable}]}", "spec.ports[1]", "Duplicate"},
			{"{mode: Strict, rollout: WhenReady}", "spec.rollout", "later version"},
			{"{mode: Strict, rollout: Never}", "spec.rollout", "Unsupported"},
			{"{mode: Strict, foo: 1}", "spec.foo", "no field"},
			{"[]", "spec", "object"},
		}},
	}
}

// requestAuthentications: issuers, keys, places and headers.
func requestAuthentications() []Table {
	with := func(more string) string {
		return `{jwt: [{issuer: i, jwks: {uri: "https://id.example.com/keys"}` + more + `}]}`
	}
	keys := func(jwks string) string { return `{jwt: [{issuer: i, jwks: ` + jwks + `}]}` }
	const at = "spec.jwt[0]"
	return []Table{
		{"RequestAuthentication", []Rule{
			{Spec: with("")},
			{Spec: with(", audiences: [shop]")},
			{Spec: with(`, from: {headers: [{name: authorization, prefix: "Bearer "}], params: [], cookies: []}`)},
			{Spec: with(", from: {cookies: [session]}, forward: true, claimToHeaders: [{claim: sub, header: x-user}, {path: [realm, roles], header: x-roles}]")},
			{Spec: keys(`{inline: '{"keys": []}'}`)},
			{Spec: with("")[:len(with(""))-1] + ", targetRefs: [{kind: Gateway, name: edge}]}"},
			{"{}", "spec.jwt", "Required"},
			{"{jwt: []}", "spec.jwt", "at least 1"},
			{with("")[:len(with(""))-1] + ", targetRefs: [{kind: Service, name: edge}]}", "spec.targetRefs[0].kind", "Namespace, Pod or Gateway"},
			{"{jwt: [{jwks: {inline: x}}]}", at + ".issuer", "Required"},
			{"{jwt: [{issuer: '', jwks: {inline: x}}]}", at + ".issuer", "at least 1"},
			{"{jwt: [{issuer: i, jwks: {inline: x}}, {issuer: i, jwks: {inline: y}}]}", "spec.jwt[1]", "Duplicate"},
			{"{jwt: [{issuer: i}]}", at + ".jwks", "Required"},
			{keys("{}"), at + ".jwks", "exactly one of uri and inline"},
			{keys("{uri: 'https://a/b', inline: x}"), at + ".jwks", "exactly one of uri and inline"},
			{keys("{uri: 'ftp://a/b'}"), at + ".jwks.uri", "should match"},
			{keys("{uri: 'https:///b'}"), at + ".jwks.uri", "should match"},
			{keys("{inline: ''}"), at + ".jwks.inline", "at least 1"},
			{with(", audiences: []"), at + ".audiences", "at least 1"},
			{with(", from: {}"), at + ".from", "a place is needed"},
			{with(", from: {headers: [], params: []}"), at + ".from", "a place is needed"},
			{with(", from: {headers: [{name: 'a b'}]}"), at + ".from.headers[0].name", "should match"},
			{with(", claimToHeaders: []"), at + ".claimToHeaders", "at least 1"},
			{with(", claimToHeaders: [{header: x}]"), at + ".claimToHeaders[0]", "exactly one of claim"},
			{with(", claimToHeaders: [{claim: a, path: [b], header: x}]"), at + ".claimToHeaders[0]", "exactly one of claim"},
			{with(", claimToHeaders: [{claim: a, header: ':path'}]"), at + ".claimToHeaders[0].header", "should match"},
			{with(", claimToHeaders: [{path: [], header: x}]"), at + ".claimToHeaders[0].path", "at least 1"},
		}},
	}
}
