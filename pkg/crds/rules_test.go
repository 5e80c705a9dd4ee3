package crds

import (
	"fmt"
	"strings"
	"testing"
)

// rule is a spec and what becomes of it: accepted when field is "", otherwise
// refused at that field with a message that contains the text.
type rule struct{ spec, field, text string }

// checkRules decodes each spec as an object of a kind.
func checkRules(t *testing.T, kind string, rules []rule) {
	t.Helper()
	name := "x"
	if kind == "MeshConfig" || kind == "CertificateAuthority" {
		name = "default"
	}
	for _, r := range rules {
		t.Run(r.spec, func(t *testing.T) {
			doc := fmt.Sprintf("apiVersion: meshd.io/v1alpha1\nkind: %s\nmetadata: {name: %s}\nspec: %s\n", kind, name, r.spec)
			objects, findings := Decode([]byte(doc), "f.yaml")
			if r.field == "" {
				if len(objects) != 1 || len(findings) > 0 {
					t.Errorf("refused: %+v", findings)
				}
				return
			}
			if len(objects) > 0 {
				t.Error("accepted")
			}
			for _, f := range findings {
				if f.Field == r.field && strings.Contains(f.Message, r.text) && f.Line == 4 {
					return
				}
			}
			t.Errorf("no finding at %s with %q in %+v", r.field, r.text, findings)
		})
	}
}

func TestTargetRefRules(t *testing.T) {
	with := func(ref string) string { return "{mode: Strict, targetRefs: " + ref + "}" }
	const at = "spec.targetRefs[0]"
	checkRules(t, "PeerAuthentication", []rule{
		{spec: with("[{kind: Namespace}]")},
		{spec: with("[{kind: Namespace, name: default}]")},
		{spec: with("[{kind: Pod, selector: {matchLabels: {app: loans}}}]")},
		{spec: with("[{kind: Pod, selector: {matchExpressions: [{key: app, operator: In, values: [a, b]}]}}]")},
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
		{spec: with("[{kind: Namespace, group: ''}]")},
		{with("[{kind: Namespace, sectionName: a}]"), at, "sectionName"},
		{with("[{name: x}]"), at + ".kind", "Required"},
		{with("[{kind: Namespace, namespace: other}]"), at + ".namespace", "no field"},
	})
	checkRules(t, "TrafficPolicy", []rule{
		{spec: "{targetRefs: [{kind: HTTPRoute, name: r, sectionName: rule-1, group: gateway.networking.k8s.io}]}"},
		{spec: "{targetRefs: [{kind: GRPCRoute, name: r}]}"},
		{spec: "{targetRefs: [{kind: Gateway, name: r}]}"},
		{spec: "{targetRefs: [{kind: Namespace}]}"},
		{spec: "{targetRefs: [{kind: Service, name: a}, {kind: Service, name: b}]}"},
		{"{}", "spec.targetRefs", "Required"},
		{"{targetRefs: [{kind: Service}]}", at, "a name is needed"},
		{"{targetRefs: [{kind: Service, name: s, sectionName: x}]}", at, "sectionName"},
		{"{targetRefs: [{kind: HTTPRoute, name: s, group: networking.k8s.io}]}", at, "group"},
		{"{targetRefs: [{kind: Pod, selector: {matchLabels: {a: b}}}]}", at + ".kind", "kind must be"},
	})
}

func TestPeerAuthenticationRules(t *testing.T) {
	checkRules(t, "PeerAuthentication", []rule{
		{spec: "{mode: Strict}"},
		{spec: "{mode: Permissive, rollout: Immediate}"},
		{spec: "{mode: Disable, ports: [{port: 1, mode: Strict}, {port: 65535, mode: Permissive}]}"},
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
	})
}

func TestRequestAuthenticationRules(t *testing.T) {
	with := func(more string) string {
		return `{jwt: [{issuer: i, jwks: {uri: "https://id.example.com/keys"}` + more + `}]}`
	}
	keys := func(jwks string) string { return `{jwt: [{issuer: i, jwks: ` + jwks + `}]}` }
	const at = "spec.jwt[0]"
	checkRules(t, "RequestAuthentication", []rule{
		{spec: with("")},
		{spec: with(", audiences: [shop]")},
		{spec: with(`, from: {headers: [{name: authorization, prefix: "Bearer "}], params: [], cookies: []}`)},
		{spec: with(", from: {cookies: [session]}, forward: true, claimToHeaders: [{claim: sub, header: x-user}, {path: [realm, roles], header: x-roles}]")},
		{spec: keys(`{inline: '{"keys": []}'}`)},
		{spec: with("")[:len(with(""))-1] + ", targetRefs: [{kind: Gateway, name: edge}]}"},
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
	})
}

func TestMeshConfigRules(t *testing.T) {
	checkRules(t, "MeshConfig", []rule{
		{spec: "{}"},
		{spec: "{trustDomain: example.com, trustDomainAliases: [old.example.com]}"},
		{spec: "{egress: {mode: Deny, hosts: [api.example.com, '*.example.com'], cidrs: [192.0.2.0/24, 'fd00::/8']}}"},
		{spec: "{telemetry: {tracing: {otlp: 'collector.obs:4317', samplePercent: 100}}}"},
		{spec: "{telemetry: {tracing: {otlp: '[fd00::1]:4317'}}}"},
		{spec: "{injection: {exclude: {inboundPorts: [9000], outboundCIDRs: [10.0.0.0/8], uids: [0, 1000]}}}"},
		{spec: "{defaults: {traffic: {timeout: {request: 5s}}}}"},
		{"{trustDomain: Example.com}", "spec.trustDomain", "should match"},
		{"{trustDomain: ''}", "spec.trustDomain", "at least 1"},
		{"{trustDomain: 'spiffe://x'}", "spec.trustDomain", "should match"},
		{"{trustDomainAliases: [a, a]}", "spec.trustDomainAliases[1]", "Duplicate"},
		{"{identity: {carrier: None}}", "spec.identity.carrier", "Unsupported"},
		{"{injection: {default: Always}}", "spec.injection.default", "Unsupported"},
		{"{injection: {proxy: {concurrency: 0}}}", "spec.injection.proxy.concurrency", "greater than"},
		{"{injection: {proxy: {logLevel: loud}}}", "spec.injection.proxy.logLevel", "Unsupported"},
		{"{injection: {exclude: {inboundPorts: [0]}}}", "spec.injection.exclude.inboundPorts[0]", "greater than"},
		{"{injection: {exclude: {outboundCIDRs: [10.0.0.0]}}}", "spec.injection.exclude.outboundCIDRs[0]", "must be a CIDR"},
		{"{injection: {exclude: {uids: [-1]}}}", "spec.injection.exclude.uids[0]", "greater than"},
		{"{egress: {mode: Block}}", "spec.egress.mode", "Unsupported"},
		{"{egress: {hosts: ['*']}}", "spec.egress.hosts[0]", "should match"},
		{"{egress: {hosts: ['a.*.com']}}", "spec.egress.hosts[0]", "should match"},
		{"{egress: {hosts: ['https://a.com']}}", "spec.egress.hosts[0]", "should match"},
		{"{egress: {cidrs: [10.0.0.0/33]}}", "spec.egress.cidrs[0]", "must be a CIDR"},
		{"{telemetry: {accessLog: Some}}", "spec.telemetry.accessLog", "Unsupported"},
		{"{telemetry: {tracing: {samplePercent: 101}}}", "spec.telemetry.tracing.samplePercent", "less than"},
		{"{telemetry: {tracing: {otlp: 'http://x:1'}}}", "spec.telemetry.tracing.otlp", "should match"},
		{"{telemetry: {metrics: {maxSeries: 0}}}", "spec.telemetry.metrics.maxSeries", "greater than"},
		{"{scope: Some}", "spec.scope", "Unsupported"},
		{"{cidrs: [x]}", "spec.cidrs[0]", "must be a CIDR"},
		{"{defaults: {peerAuthentication: Off}}", "spec.defaults.peerAuthentication", "Unsupported"},
		{"{defaults: {authorization: Maybe}}", "spec.defaults.authorization", "Unsupported"},
		{"{defaults: {traffic: {targetRefs: [{kind: Namespace}]}}}", "spec.defaults.traffic.targetRefs", "no field"},
	})
}

func TestCertificateAuthorityRules(t *testing.T) {
	checkRules(t, "CertificateAuthority", []rule{
		{spec: "{}"},
		{spec: "{source: Secret, secretRef: {name: my-ca}, rotate: '2026', paused: true}"},
		{spec: "{lifetimes: {leaf: 1m}}"},
		{"{source: Vault}", "spec.source", "Unsupported"},
		{"{secretRef: {name: ''}}", "spec.secretRef.name", "at least 1"},
		{"{lifetimes: {leaf: 0s}}", "spec.lifetimes.leaf", "at least 1s"},
		{"{lifetimes: {leaf: -1h}}", "spec.lifetimes.leaf", "should match"},
		{"{lifetimes: {leaf: 1d}}", "spec.lifetimes.leaf", "should match"},
		{"{lifetimes: {leaf: 200h}}", "spec.lifetimes.issuer", "must not be less than leaf"},
		{"{lifetimes: {root: 100h}}", "spec.lifetimes.root", "must not be less than issuer"},
	})
}

func TestOnlyTheDefaultCountsOfClusterScopedKinds(t *testing.T) {
	for _, kind := range []string{"MeshConfig", "CertificateAuthority"} {
		_, findings := Decode([]byte("apiVersion: meshd.io/v1alpha1\nkind: "+kind+"\nmetadata: {name: other}\n"), "f.yaml")
		if len(findings) != 1 || !strings.Contains(findings[0].Message, "must be default") {
			t.Errorf("%s: %+v", kind, findings)
		}
		_, findings = Decode([]byte("apiVersion: meshd.io/v1alpha1\nkind: "+kind+"\nmetadata: {name: default, namespace: x}\n"), "f.yaml")
		if len(findings) != 1 || findings[0].Field != "metadata.namespace" {
			t.Errorf("%s: %+v", kind, findings)
		}
	}
}

func TestWorkloadRules(t *testing.T) {
	checkRules(t, "Workload", []rule{
		{spec: "{serviceAccount: loans, addresses: [192.0.2.7, 'fd00::1'], ports: [{name: http, port: 8090}, {port: 9000}], zone: ''}"},
		{"{addresses: [192.0.2.7]}", "spec.serviceAccount", "Required"},
		{"{serviceAccount: A_b, addresses: [192.0.2.7]}", "spec.serviceAccount", "should match"},
		{"{serviceAccount: a}", "spec.addresses", "Required"},
		{"{serviceAccount: a, addresses: []}", "spec.addresses", "at least 1"},
		{"{serviceAccount: a, addresses: [vm.example.com]}", "spec.addresses[0]", "must be an IPv4 or IPv6 address"},
		{"{serviceAccount: a, addresses: [192.0.2.7, 192.0.2.7]}", "spec.addresses[1]", "Duplicate"},
		{"{serviceAccount: a, addresses: [192.0.2.7], ports: []}", "spec.ports", "at least 1"},
		{"{serviceAccount: a, addresses: [192.0.2.7], ports: [{port: 70000}]}", "spec.ports[0].port", "less than"},
		{"{serviceAccount: a, addresses: [192.0.2.7], ports: [{port: 80}, {port: 80}]}", "spec.ports[1]", "Duplicate"},
		{"{serviceAccount: a, addresses: [192.0.2.7], ports: [{port: 80, name: Not_Valid}]}", "spec.ports[0].name", "should match"},
	})
}

// A number's format is spoken of once, at its field.
func TestNumberFormat(t *testing.T) {
	for _, attempts := range []string{"3.5", "99999999999", "'3'"} {
		doc := "apiVersion: meshd.io/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: x}\nspec: {targetRefs: [{kind: Namespace}], retry: {attempts: " + attempts + "}}\n"
		if _, findings := Decode([]byte(doc), "f.yaml"); len(findings) != 1 || findings[0].Field != "spec.retry.attempts" {
			t.Errorf("%s: %+v", attempts, findings)
		} else {
			t.Log(findings[0].Message)
		}
	}
}
