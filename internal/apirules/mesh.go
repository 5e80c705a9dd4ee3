package apirules

// meshConfigs: every part of the configuration.
func meshConfigs() []Table {
	return []Table{
		{"MeshConfig", []Rule{
			{Spec: "{}"},
			{Spec: "{trustDomain: example.com, trustDomainAliases: [old.example.com]}"},
			{Spec: "{egress: {mode: Deny, hosts: [api.example.com, '*.example.com'], cidrs: [192.0.2.0/24, 'fd00::/8']}}"},
			{Spec: "{telemetry: {tracing: {otlp: 'collector.obs:4317', samplePercent: 100}}}"},
			{Spec: "{telemetry: {tracing: {otlp: '[fd00::1]:4317'}}}"},
			{Spec: "{injection: {exclude: {inboundPorts: [9000], outboundCIDRs: [10.0.0.0/8], uids: [0, 1000]}}}"},
			{Spec: "{defaults: {traffic: {timeout: {request: 5s}}}}"},
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
		}},
	}
}

// certificateAuthorities: sources and lifetimes.
func certificateAuthorities() []Table {
	return []Table{
		{"CertificateAuthority", []Rule{
			{Spec: "{}"},
			{Spec: "{source: Secret, secretRef: {name: my-ca}, rotate: '2026', paused: true}"},
			{Spec: "{lifetimes: {leaf: 1m}}"},
			{"{source: Vault}", "spec.source", "Unsupported"},
			{"{secretRef: {name: ''}}", "spec.secretRef.name", "at least 1"},
			{"{lifetimes: {leaf: 0s}}", "spec.lifetimes.leaf", "at least 1s"},
			{"{lifetimes: {leaf: -1h}}", "spec.lifetimes.leaf", "should match"},
			{"{lifetimes: {leaf: 1d}}", "spec.lifetimes.leaf", "should match"},
			{"{lifetimes: {leaf: 200h}}", "spec.lifetimes.issuer", "must not be less than leaf"},
			{"{lifetimes: {root: 100h}}", "spec.lifetimes.root", "must not be less than issuer"},
		}},
	}
}

// workloads: addresses and ports.
func workloads() []Table {
	return []Table{
		{"Workload", []Rule{
			{Spec: "{serviceAccount: loans, addresses: [192.0.2.7, 'fd00::1'], ports: [{name: http, port: 8090}, {port: 9000}], zone: ''}"},
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
		}},
	}
}
