package integration

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

func testIngress(w *world) {
	keep := ingress("keep", `rules: [`+rule("keep.example", path("/", "Prefix", toService("target", 80)))+`]`)
	w.must(w.T, w.named(keep)) // so that the gateway stays
	w.part("rules", ingressRules)
	w.part("default backend", ingressDefaultBackend)
	w.part("classes", ingressClasses)
	w.part("unresolved", ingressUnresolved)
	w.part("conflict", ingressConflict)
	w.part("policies", ingressPolicies)
	w.part("tls", ingressTLS)
	w.hosts(map[string]int{"keep.example/": 200})
	w.delete(w.named(keep))
	w.part("gateway", ingressGateway)
}

// ingress is one of class meshd.
func ingress(name, spec string) string {
	return "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: " + name + ", namespace: NS}\nspec: {ingressClassName: meshd, " + spec + "}\n---\n"
}

func toService(service string, port int) string {
	return fmt.Sprintf("{service: {name: %s, port: {number: %d}}}", service, port)
}

func path(path, kind, backend string) string {
	return fmt.Sprintf(`{path: "%s", pathType: %s, backend: %s}`, path, kind, backend)
}

func rule(host string, paths ...string) string {
	return fmt.Sprintf(`{host: "%s", http: {paths: [%s]}}`, host, strings.Join(paths, ", "))
}

// gateway is its address; "" while there is none.
func (w *world) gateway() string {
	w.Helper()
	s, err := w.Status(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	if len(s.Gateways) == 0 {
		return ""
	}
	if g := s.Gateways[0]; len(s.Gateways) > 1 || g.Namespace != "meshd-system" || g.Name != "meshd-ingress" || !slices.Equal(g.Ports, []int{80, 443}) {
		w.Errorf("gateways: %+v", s.Gateways)
	}
	return s.Gateways[0].Address
}

// hosts asks the gateway by name.
func (w *world) hosts(want map[string]int) {
	w.Helper()
	address := w.gateway()
	var vs []verdict
	for target, code := range want {
		host, path, _ := strings.Cut(target, "/")
		vs = append(vs, verdict{outsider, question{URL: "http://" + address + "/" + path, Host: host}, code})
	}
	w.verdicts(vs...)
}

func ingressRules(w *world) {
	target := toService("target", 80)
	w.with(ingress("a", `rules: [`+
		rule("a.example", path("/loans", "Prefix", target), path("/exact", "Exact", target), path("/impl", "ImplementationSpecific", target), path("/loans/broken", "Prefix", toService("nowhere", 80)))+`, `+
		rule("*.wild.example", path("/", "Prefix", target))+`, `+
		rule("named.wild.example", path("/only", "Prefix", target))+`]`), func() {
		w.hosts(map[string]int{
			"a.example/loans": 200, "a.example/loans/": 200, "a.example/loans/x": 200, "a.example/loansx": 404, "a.example/Loans": 404, "a.example/": 404,
			"a.example/exact": 200, "a.example/exact/": 404, "a.example/exact/x": 404, "a.example/impl/x": 200,
			"a.example/loans/broken": 503, "a.example/loans/broken/x": 503, "a.example/loans/brokenx": 200,
			"a.example//loans": 200, "a.example/x/../loans": 200, "a.example/loans/../x": 404, "a.example/%6coans": 200, "a.example/loans?x=1": 200,
			"A.EXAMPLE/loans": 200, "a.example:80/loans": 200, "a.example:8080/loans": 200, "b.example/loans": 404, "x.a.example/loans": 404,
			"x.wild.example/any": 200, "X.Wild.example:80/any": 200, "x.y.wild.example/any": 404, "wild.example/any": 404, "named.wild.example/only": 200, "named.wild.example/any": 404,
		})
		r := w.ask(outsider, question{URL: "http://" + w.gateway() + "/loans", Host: "a.example", Headers: http.Header{"x-forwarded-client-cert": {"URI=spiffe://cluster.local/ns/x/sa/y"}}})[0]
		if xfcc := r.Seen.Headers.Get("X-Forwarded-Client-Cert"); !strings.Contains(xfcc, "/sa/meshd-ingress") || strings.Contains(xfcc, "/ns/x/") || r.Seen.Host != "a.example" {
			w.Errorf("%+v", r)
		}
	})
	w.with(ingress("any", `rules: [{host: "*.wild.example"}, {http: {paths: [`+path("/any", "Prefix", target)+`]}}]`), func() {
		w.hosts(map[string]int{"whatever/any": 200, "whatever/other": 404, "x.y.wild.example/any": 200})
	})
}

func ingressDefaultBackend(w *world) {
	w.with(ingress("rules", `rules: [`+rule("a.example", path("/loans", "Prefix", toService("target", 80)))+`]`)+
		ingress("default", `defaultBackend: `+toService("target", 80)), func() {
		w.hosts(map[string]int{"a.example/loans": 200, "b.example/any": 200, "a.example/other": 200})
	})
	w.with(ingress("rules", `rules: [`+rule("a.example", path("/loans", "Prefix", toService("target", 80)))+`]`)+
		ingress("default", `defaultBackend: `+toService("nowhere", 80)), func() {
		w.hosts(map[string]int{"a.example/loans": 200, "b.example/any": 503})
	})
}

func ingressClasses(w *world) {
	spec := func(host string) string {
		return `rules: [` + rule(host, path("/", "Prefix", toService("target", 80))) + `]`
	}
	other := strings.Replace(ingress("other", spec("other.example")), "ingressClassName: meshd", "ingressClassName: nginx", 1)
	none := strings.Replace(ingress("none", spec("none.example")), "ingressClassName: meshd, ", "", 1)
	annotated := strings.Replace(strings.Replace(ingress("annotated", spec("annotated.example")), "ingressClassName: meshd, ", "", 1),
		"metadata: {", `metadata: {annotations: {kubernetes.io/ingress.class: meshd}, `, 1)
	class := func(name, controller, standard string) string {
		return "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: " + name + ", annotations: {ingressclass.kubernetes.io/is-default-class: \"" + standard + "\"}}\nspec: {controller: " + controller + "}\n---\n"
	}
	w.with(other+none+annotated+ingress("own", spec("own.example")), func() {
		w.hosts(map[string]int{"own.example/": 200, "annotated.example/": 200, "other.example/": 404, "none.example/": 404})
		w.with(class("nginx", "meshd.io/ingress", "false"), func() { w.hosts(map[string]int{"other.example/": 200, "none.example/": 404}) })
		w.with(class("mine", "meshd.io/ingress", "true"), func() { w.hosts(map[string]int{"other.example/": 404, "none.example/": 200}) })
	})
}

func ingressUnresolved(w *world) {
	for _, c := range []struct{ name, backend, reason, says string }{
		{"no service", toService("nowhere", 80), "NotFound", "nowhere"},
		{"no port", toService("target", 81), "PortNotFound", "81"},
		{"no named port", "{service: {name: target, port: {name: web}}}", "PortNotFound", "web"},
		{"no endpoint", toService("empty", 80), "NoEndpoints", "empty"},
		{"resource", "{resource: {kind: Bucket, name: b, apiGroup: x.example}}", "Unsupported", "Service"},
	} {
		empty := "apiVersion: v1\nkind: Service\nmetadata: {name: empty, namespace: NS}\nspec: {selector: {app: nobody}, ports: [{name: http, port: 80}]}\n---\n"
		w.with(empty+ingress("a", `rules: [`+rule("a.example", path("/bad", "Prefix", c.backend), path("/", "Prefix", toService("target", 80)))+`]`), func() {
			w.hosts(map[string]int{"a.example/bad": 503, "a.example/bad/x": 503, "a.example/x": 200})
			got := w.condition("Ingress", "a", "ResolvedRefs")
			if got.Reason != c.reason || !strings.Contains(got.Message, c.says) || !strings.Contains(got.Message, "503") && c.reason != "Unsupported" {
				w.Errorf("%s: %+v", c.name, got)
			}
		})
	}
}

func ingressConflict(w *world) {
	rules := func(service string) string {
		return `rules: [` + rule("a.example", path("/x", "Prefix", toService(service, 80))) + `, ` + rule(service+".example", path("/", "Prefix", toService("target", 80))) + `]`
	}
	older := strings.Replace(ingress("z-older", rules("target")), "metadata: {", `metadata: {creationTimestamp: "2020-02-02T20:20:20Z", `, 1)
	w.with(older, func() {
		younger := ingress("a-younger", rules("nowhere"))
		if out := w.refused(younger); out.Refused[0].Reason != "Conflict" || !strings.Contains(out.Refused[0].Message, w.ns+"/z-older") {
			w.Errorf("%+v", out)
		}
		w.hosts(map[string]int{"a.example/x": 200, "target.example/": 200, "nowhere.example/": 200})
		w.delete(w.named(younger))
	})
}

func ingressPolicies(w *world) {
	gateway := `{serviceAccount: {namespace: meshd-system, name: meshd-ingress}}`
	w.with(ingress("a", `rules: [`+rule("a.example", path("/", "Prefix", toService("target", 80)))+`]`)+
		authz("gateway", `{action: Allow, targetRefs: [{kind: Service, name: target}], rules: [{sources: [`+gateway+`], to: [{paths: ["/open/*", /slow]}]}]}`)+
		traffic("slow", toTarget, `timeout: {request: 200ms}`), func() {
		w.hosts(map[string]int{"a.example/open/x": 200, "a.example/closed": 403, "a.example/open/../closed": 403, "a.example/slow": 504})
		w.eventually("escaped slashes are refused", func() bool {
			return w.ask(outsider, question{URL: "http://" + w.gateway() + "/open%2fx", Host: "a.example"})[0].Code == 400
		}, func() string { return "" })
		w.verdicts(verdict{alice, get("http://target/open/x"), 403})
	})
}

func ingressGateway(w *world) {
	if g := w.gateway(); g != "" {
		w.eventually("the gateway ends with the last Ingress", func() bool { return w.gateway() == "" }, func() string { return w.gateway() })
	}
}
