package apirules

// authorizationPolicies: sources and what they may do.
func authorizationPolicies() []Table {
	source := func(s string) string { return "{action: Allow, rules: [{sources: [" + s + "]}]}" }
	to := func(s string) string { return "{action: Allow, rules: [{to: [" + s + "]}]}" }
	const src, dst = "spec.rules[0].sources[0]", "spec.rules[0].to[0]"
	return []Table{
		{"AuthorizationPolicy", []Rule{
			{Spec: "{action: Allow}"},
			{Spec: "{action: Allow, mode: Audit, rules: [{}]}"},
			{Spec: "{action: Deny, rules: [{}]}"},
			{"{}", "spec.action", "Required"},
			{"{action: Log}", "spec.action", "Unsupported"},
			{"{action: Allow, mode: Shadow}", "spec.mode", "Unsupported"},
			{"{action: Deny}", "spec", "a Deny needs rules"},
			{"{action: Deny, rules: []}", "spec.rules", "at least 1"},
			{"{action: Allow, rules: []}", "spec.rules", "at least 1"},
			{"{action: Allow, rules: [{sources: []}]}", "spec.rules[0].sources", "at least 1"},
			{"{action: Allow, rules: [{to: []}]}", "spec.rules[0].to", "at least 1"},
			{"{action: Allow, targetRefs: [{kind: Ingress, name: x}]}", "spec.targetRefs[0].kind", "kind must be"},

			{Spec: source("{serviceAccount: {name: accounts}}, {serviceAccount: {namespace: ops}}")},
			{source("{}"), src, "at least 1"},
			{source("{serviceAccount: {}}"), src + ".serviceAccount", "at least 1"},
			{source("{serviceAccount: {name: ''}}"), src + ".serviceAccount.name", "at least 1"},
			{source("{serviceAccount: {name: '*'}}"), src + ".serviceAccount.name", "should match"},
			{source("{serviceAccount: {namespace: a.b}}"), src + ".serviceAccount.namespace", "should match"},
			{Spec: source("{spiffe: 'spiffe://cluster.local/ns/ops/sa/admin'}")},
			{Spec: source("{spiffe: 'spiffe://cluster.local/ns/ops/*'}")},
			{Spec: source("{spiffe: 'spiffe://cluster.local/*'}")},
			{source("{spiffe: 'spiffe://cluster.local'}"), src + ".spiffe", "should match"},
			{source("{spiffe: 'spiffe://cluster.local/'}"), src + ".spiffe", "should match"},
			{source("{spiffe: 'spiffe://*'}"), src + ".spiffe", "should match"},
			{source("{spiffe: 'spiffe://cluster.*/*'}"), src + ".spiffe", "should match"},
			{source("{spiffe: 'spiffe://cluster.local/ns/op*'}"), src + ".spiffe", "should match"},
			{source("{spiffe: 'spiffe://cluster.local/*/sa/x'}"), src + ".spiffe", "should match"},
			{source("{spiffe: 'spiffe://cluster.local/ns/../sa/x'}"), src + ".spiffe", "should match"},
			{source("{spiffe: 'spiffe://cluster.local//x'}"), src + ".spiffe", "should match"},
			{source("{spiffe: 'https://cluster.local/x'}"), src + ".spiffe", "should match"},
			{source("{spiffe: 'spiffe://Cluster.local/x'}"), src + ".spiffe", "should match"},
			{Spec: source("{jwt: {issuer: i}}")},
			{Spec: source("{jwt: {issuer: i, claims: [{name: groups, values: [staff, '']}, {path: [realm, roles], values: [a]}]}}")},
			{source("{jwt: {}}"), src + ".jwt.issuer", "Required"},
			{source("{jwt: {issuer: i, claims: []}}"), src + ".jwt.claims", "at least 1"},
			{source("{jwt: {issuer: i, claims: [{values: [a]}]}}"), src + ".jwt.claims[0]", "exactly one of name"},
			{source("{jwt: {issuer: i, claims: [{name: a, path: [b], values: [a]}]}}"), src + ".jwt.claims[0]", "exactly one of name"},
			{source("{jwt: {issuer: i, claims: [{name: a, values: []}]}}"), src + ".jwt.claims[0].values", "at least 1"},
			{source("{jwt: {issuer: i, claims: [{name: a}]}}"), src + ".jwt.claims[0].values", "Required"},
			{Spec: source("{cidr: 10.1.0.0/16}, {cidr: 'fd00::/8'}, {forwardedCIDR: 192.0.2.1/32}")},
			{source("{cidr: 10.1.0.0}"), src + ".cidr", "must be a CIDR"},
			{source("{cidr: 10.1.0.0/40}"), src + ".cidr", "must be a CIDR"},
			{source("{cidr: ''}"), src + ".cidr", "at least 1"},
			{source("{forwardedCIDR: any}"), src + ".forwardedCIDR", "must be a CIDR"},

			{to("{}"), dst, "at least 1"},
			{Spec: to("{ports: [8090, 1, 65535]}")},
			{to("{ports: []}"), dst + ".ports", "at least 1"},
			{to("{ports: [0]}"), dst + ".ports[0]", "greater than"},
			{to("{ports: ['80']}"), dst + ".ports[0]", "integer"},
			{Spec: to("{methods: [GET, HEAD, M-SEARCH]}")},
			{to("{methods: []}"), dst + ".methods", "at least 1"},
			{to("{methods: [get]}"), dst + ".methods[0]", "should match"},
			{to("{methods: ['*']}"), dst + ".methods[0]", "should match"},
			{Spec: to("{headers: [{name: X-Tier, values: [gold]}]}")},
			{to("{headers: []}"), dst + ".headers", "at least 1"},
			{to("{headers: [{name: ':path', values: [a]}]}"), dst + ".headers[0].name", "should match"},
			{to("{headers: [{name: a, values: []}]}"), dst + ".headers[0].values", "at least 1"},
			{Spec: to("{grpc: [{service: shop.Loans, methods: [Get]}, {service: Loans}]}")},
			{to("{grpc: []}"), dst + ".grpc", "at least 1"},
			{to("{grpc: [{service: shop/Loans}]}"), dst + ".grpc[0].service", "should match"},
			{to("{grpc: [{service: a, methods: []}]}"), dst + ".grpc[0].methods", "at least 1"},
			{to("{grpc: [{service: a, methods: ['*']}]}"), dst + ".grpc[0].methods[0]", "should match"},
			{to("{hosts: [a]}"), dst + ".hosts", "no field"},
		}},
	}
}

// paths: what is a path, and what is none.
func paths() []Table {
	var rules []Rule
	for _, good := range []string{
		"/", "/*", "/loans", "/loans/", "/loans/*", "/users/{id}/loans", "/users/{id}", "/{a}/{b}/*", "/a.b/~c/d%20e", "/.well-known/x",
		"/..a", "/a:b@c;d=e,f", "/a/b-c_d", "/$x!&'()+",
	} {
		rules = append(rules, Rule{Spec: `{action: Allow, rules: [{to: [{paths: ["` + good + `"]}]}]}`})
	}
	for _, bad := range []string{
		"loans", "*", "/a*", "/*/a", "/a/*b", "/a/**", "//", "/a//b", "/a/./b", "/a/../b", "/..", "/{id", "/x{id}", "/{id}x", "/{}", "/{1a}",
		"/a?b=c", "/a#b", "/a b", "/a%2", "/a%zz", "/ü", "/a/*/", "/a\\\\b",
	} {
		rules = append(rules, Rule{`{action: Allow, rules: [{to: [{paths: ["` + bad + `"]}]}]}`, "spec.rules[0].to[0].paths[0]", ": Paths begin with / and are exact;"})
	}
	return []Table{{"AuthorizationPolicy", append(rules, Rule{`{action: Allow, rules: [{to: [{paths: [""]}]}]}`, "spec.rules[0].to[0].paths[0]", "at least 1"})}}
}
