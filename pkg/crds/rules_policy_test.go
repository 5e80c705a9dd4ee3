package crds

import "testing"

func TestAuthorizationPolicyRules(t *testing.T) {
	source := func(s string) string { return "{action: Allow, rules: [{sources: [" + s + "]}]}" }
	to := func(s string) string { return "{action: Allow, rules: [{to: [" + s + "]}]}" }
	const src, dst = "spec.rules[0].sources[0]", "spec.rules[0].to[0]"
	checkRules(t, "AuthorizationPolicy", []rule{
		{spec: "{action: Allow}"},
		{spec: "{action: Allow, mode: Audit, rules: [{}]}"},
		{spec: "{action: Deny, rules: [{}]}"},
		{"{}", "spec.action", "Required"},
		{"{action: Log}", "spec.action", "Unsupported"},
		{"{action: Allow, mode: Shadow}", "spec.mode", "Unsupported"},
		{"{action: Deny}", "spec", "a Deny needs rules"},
		{"{action: Deny, rules: []}", "spec.rules", "at least 1"},
		{"{action: Allow, rules: []}", "spec.rules", "at least 1"},
		{"{action: Allow, rules: [{sources: []}]}", "spec.rules[0].sources", "at least 1"},
		{"{action: Allow, rules: [{to: []}]}", "spec.rules[0].to", "at least 1"},
		{"{action: Allow, targetRefs: [{kind: Ingress, name: x}]}", "spec.targetRefs[0].kind", "kind must be"},

		{spec: source("{serviceAccount: {name: accounts}}, {serviceAccount: {namespace: ops}}")},
		{source("{}"), src, "at least 1"},
		{source("{serviceAccount: {}}"), src + ".serviceAccount", "at least 1"},
		{source("{serviceAccount: {name: ''}}"), src + ".serviceAccount.name", "at least 1"},
		{source("{serviceAccount: {name: '*'}}"), src + ".serviceAccount.name", "should match"},
		{source("{serviceAccount: {namespace: a.b}}"), src + ".serviceAccount.namespace", "should match"},
		{spec: source("{spiffe: 'spiffe://cluster.local/ns/ops/sa/admin'}")},
		{spec: source("{spiffe: 'spiffe://cluster.local/ns/ops/*'}")},
		{spec: source("{spiffe: 'spiffe://cluster.local/*'}")},
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
		{spec: source("{jwt: {issuer: i}}")},
		{spec: source("{jwt: {issuer: i, claims: [{name: groups, values: [staff, '']}, {path: [realm, roles], values: [a]}]}}")},
		{source("{jwt: {}}"), src + ".jwt.issuer", "Required"},
		{source("{jwt: {issuer: i, claims: []}}"), src + ".jwt.claims", "at least 1"},
		{source("{jwt: {issuer: i, claims: [{values: [a]}]}}"), src + ".jwt.claims[0]", "exactly one of name"},
		{source("{jwt: {issuer: i, claims: [{name: a, path: [b], values: [a]}]}}"), src + ".jwt.claims[0]", "exactly one of name"},
		{source("{jwt: {issuer: i, claims: [{name: a, values: []}]}}"), src + ".jwt.claims[0].values", "at least 1"},
		{source("{jwt: {issuer: i, claims: [{name: a}]}}"), src + ".jwt.claims[0].values", "Required"},
		{spec: source("{cidr: 10.1.0.0/16}, {cidr: 'fd00::/8'}, {forwardedCIDR: 192.0.2.1/32}")},
		{source("{cidr: 10.1.0.0}"), src + ".cidr", "must be a CIDR"},
		{source("{cidr: 10.1.0.0/40}"), src + ".cidr", "must be a CIDR"},
		{source("{cidr: ''}"), src + ".cidr", "at least 1"},
		{source("{forwardedCIDR: any}"), src + ".forwardedCIDR", "must be a CIDR"},

		{to("{}"), dst, "at least 1"},
		{spec: to("{ports: [8090, 1, 65535]}")},
		{to("{ports: []}"), dst + ".ports", "at least 1"},
		{to("{ports: [0]}"), dst + ".ports[0]", "greater than"},
		{to("{ports: ['80']}"), dst + ".ports[0]", "integer"},
		{spec: to("{methods: [GET, HEAD, M-SEARCH]}")},
		{to("{methods: []}"), dst + ".methods", "at least 1"},
		{to("{methods: [get]}"), dst + ".methods[0]", "should match"},
		{to("{methods: ['*']}"), dst + ".methods[0]", "should match"},
		{spec: to("{headers: [{name: X-Tier, values: [gold]}]}")},
		{to("{headers: []}"), dst + ".headers", "at least 1"},
		{to("{headers: [{name: ':path', values: [a]}]}"), dst + ".headers[0].name", "should match"},
		{to("{headers: [{name: a, values: []}]}"), dst + ".headers[0].values", "at least 1"},
		{spec: to("{grpc: [{service: shop.Loans, methods: [Get]}, {service: Loans}]}")},
		{to("{grpc: []}"), dst + ".grpc", "at least 1"},
		{to("{grpc: [{service: shop/Loans}]}"), dst + ".grpc[0].service", "should match"},
		{to("{grpc: [{service: a, methods: []}]}"), dst + ".grpc[0].methods", "at least 1"},
		{to("{grpc: [{service: a, methods: ['*']}]}"), dst + ".grpc[0].methods[0]", "should match"},
		{to("{hosts: [a]}"), dst + ".hosts", "no field"},
	})
}

func TestPathRules(t *testing.T) {
	var rules []rule
	for _, good := range []string{
		"/", "/*", "/loans", "/loans/", "/loans/*", "/users/{id}/loans", "/users/{id}", "/{a}/{b}/*", "/a.b/~c/d%20e", "/.well-known/x",
		"/..a", "/a:b@c;d=e,f", "/a/b-c_d", "/$x!&'()+",
	} {
		rules = append(rules, rule{spec: `{action: Allow, rules: [{to: [{paths: ["` + good + `"]}]}]}`})
	}
	for _, bad := range []string{
		"loans", "*", "/a*", "/*/a", "/a/*b", "/a/**", "//", "/a//b", "/a/./b", "/a/../b", "/..", "/{id", "/x{id}", "/{id}x", "/{}", "/{1a}",
		"/a?b=c", "/a#b", "/a b", "/a%2", "/a%zz", "/ü", "/a/*/", "/a\\\\b",
	} {
		rules = append(rules, rule{`{action: Allow, rules: [{to: [{paths: ["` + bad + `"]}]}]}`, "spec.rules[0].to[0].paths[0]", ": Paths begin with / and are exact;"})
	}
	checkRules(t, "AuthorizationPolicy", append(rules, rule{`{action: Allow, rules: [{to: [{paths: [""]}]}]}`, "spec.rules[0].to[0].paths[0]", "at least 1"}))
}

func TestTrafficPolicyRules(t *testing.T) {
	with := func(s string) string { return "{targetRefs: [{kind: Service, name: s}], " + s + "}" }
	checkRules(t, "TrafficPolicy", []rule{
		{with("retry: {attempts: 3.5}"), "spec.retry.attempts", "must be"},
		{with("circuitBreaker: {maxRequests: 99999999999}"), "spec.circuitBreaker.maxRequests", "must be"},
		{spec: with("timeout: {request: 5s, backend: 2s, idle: 1h30m, connect: 250ms}")},
		{spec: with("timeout: {request: 0s, backend: 2s}")},
		{with("timeout: {request: 5}"), "spec.timeout.request", "string"},
		{with("timeout: {request: 5sec}"), "spec.timeout.request", "should match"},
		{with("timeout: {request: 1.5s}"), "spec.timeout.request", "should match"},
		{with("timeout: {request: 1s, backend: 2s}"), "spec.timeout.backend", "must not be more than request"},
		{with("timeout: {connect: 0s}"), "spec.timeout.connect", "more than 0"},
		{spec: with("retry: {}")},
		{spec: with("retry: {attempts: 0}")},
		{spec: with("retry: {attempts: 3, on: [ConnectFailure, Reset, Unavailable], codes: [503], budget: {percent: 0, minimum: 0}}")},
		{with("retry: {attempts: -1}"), "spec.retry.attempts", "greater than"},
		{with("retry: {attempts: 26}"), "spec.retry.attempts", "less than"},
		{with("retry: {on: []}"), "spec.retry.on", "at least 1"},
		{with("retry: {on: [5xx]}"), "spec.retry.on[0]", "Unsupported"},
		{with("retry: {on: [Reset, Reset]}"), "spec.retry.on[1]", "Duplicate"},
		{with("retry: {codes: []}"), "spec.retry.codes", "at least 1"},
		{with("retry: {codes: [200]}"), "spec.retry.codes[0]", "greater than"},
		{with("retry: {codes: [600]}"), "spec.retry.codes[0]", "less than"},
		{with("retry: {backoff: {base: 0s}}"), "spec.retry.backoff.base", "more than 0"},
		{with("retry: {backoff: {base: 1s}}"), "spec.retry.backoff.max", "must not be less than base"},
		{with("retry: {budget: {percent: 101}}"), "spec.retry.budget.percent", "less than"},
		{spec: with("circuitBreaker: {maxConnections: 1}")},
		{with("circuitBreaker: {maxConnections: 0}"), "spec.circuitBreaker.maxConnections", "greater than"},
		{with("circuitBreaker: {maxPendingRequests: 0}"), "spec.circuitBreaker.maxPendingRequests", "greater than"},
		{with("circuitBreaker: {maxRequests: -1}"), "spec.circuitBreaker.maxRequests", "greater than"},
		{spec: with("outlierDetection: {maxEjectedPercent: 100}")},
		{with("outlierDetection: {consecutiveErrors: 0}"), "spec.outlierDetection.consecutiveErrors", "greater than"},
		{with("outlierDetection: {interval: 0s}"), "spec.outlierDetection.interval", "more than 0"},
		{with("outlierDetection: {baseEjection: 0ms}"), "spec.outlierDetection.baseEjection", "more than 0"},
		{with("outlierDetection: {maxEjectedPercent: 101}"), "spec.outlierDetection.maxEjectedPercent", "less than"},
		{spec: with("loadBalancing: {policy: RingHash, hash: {header: x-user}}")},
		{spec: with("loadBalancing: {policy: Maglev, hash: {sourceIP: true}}")},
		{spec: with("loadBalancing: {policy: RoundRobin, slowStart: 30s}")},
		{with("loadBalancing: {policy: Sticky}"), "spec.loadBalancing.policy", "Unsupported"},
		{with("loadBalancing: {policy: RingHash}"), "spec.loadBalancing.hash", "need a hash"},
		{with("loadBalancing: {policy: Maglev, hash: {}}"), "spec.loadBalancing.hash", "exactly one"},
		{with("loadBalancing: {policy: Maglev, hash: {sourceIP: false}}"), "spec.loadBalancing.hash", "exactly one"},
		{with("loadBalancing: {policy: Maglev, hash: {header: a, cookie: b}}"), "spec.loadBalancing.hash", "exactly one"},
		{with("loadBalancing: {policy: Maglev, hash: {header: 'a b'}}"), "spec.loadBalancing.hash.header", "should match"},
		{with("loadBalancing: {policy: Random, slowStart: 1s}"), "spec.loadBalancing.slowStart", "only"},
		{spec: with("rateLimit: {requests: 100, per: 1s, burst: 20, key: SourceIdentity}")},
		{with("rateLimit: {per: 1s}"), "spec.rateLimit.requests", "Required"},
		{with("rateLimit: {requests: 0, per: 1s}"), "spec.rateLimit.requests", "greater than"},
		{with("rateLimit: {requests: 1}"), "spec.rateLimit.per", "Required"},
		{with("rateLimit: {requests: 1, per: 1ms}"), "spec.rateLimit.per", "at least 50ms"},
		{with("rateLimit: {requests: 1, per: 1s, key: User}"), "spec.rateLimit.key", "Unsupported"},
		{spec: with("fault: {delay: {duration: 1s, percent: 10}}")},
		{with("fault: {}"), "spec.fault", "at least 1"},
		{with("fault: {delay: {duration: 0s, percent: 10}}"), "spec.fault.delay.duration", "more than 0"},
		{with("fault: {delay: {duration: 1s, percent: 101}}"), "spec.fault.delay.percent", "less than"},
		{with("fault: {abort: {status: 99, percent: 1}}"), "spec.fault.abort.status", "greater than"},
		{with("fault: {abort: {status: 600, percent: 1}}"), "spec.fault.abort.status", "less than"},
		{with("fault: {abort: {status: 503}}"), "spec.fault.abort.percent", "Required"},
		{spec: with("protocol: HTTP2")},
		{with("protocol: HTTP3"), "spec.protocol", "Unsupported"},
	})
}
