package ingress

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/meshd-io/meshd/pkg/compile/object"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// The gateway's ports, as clients see them.
const (
	httpPort  = 80
	httpsPort = 443
)

// anyHost is the virtual host of rules that name none.
const anyHost = "*"

// Backend is a Service's port, as far as a route needs it.
type Backend struct {
	Service, Port bool // whether there are such ones
	Ref           model.BackendRef
	Traffic       model.Traffic
	// Ready: it has an endpoint that is.
	Ready bool
}

// Surroundings are what Ingresses name.
type Surroundings interface {
	Backend(service model.Name, port networkingv1.ServiceBackendPort) Backend
	Certificate(secret model.Name) Certificate
}

// BackendOf finds a port of a Service; nil is no Service.
func BackendOf(s *model.Service, port networkingv1.ServiceBackendPort) Backend {
	if s == nil {
		return Backend{}
	}
	i := slices.IndexFunc(s.Ports, func(p model.ServicePort) bool {
		if port.Name != "" {
			return p.Name == port.Name
		}
		return int32(p.Port) == port.Number
	})
	if i < 0 {
		return Backend{Service: true}
	}
	b := s.Ports[i].Backend
	return Backend{Service: true, Port: true, Ref: b.Ref, Traffic: b.Traffic, Ready: len(b.Endpoints) > 0}
}

// Compile makes the gateway of all Ingresses of meshd's, the older first; nil where there are none.
func Compile(ingresses []*networkingv1.Ingress, key model.WorkloadKey, around Surroundings) (*model.Gateway, []report.Finding) {
	if len(ingresses) == 0 {
		return nil, nil
	}
	c := &compiler{around: around, hosts: map[string]*virtualHost{}}
	g := &model.Gateway{Key: key, Name: model.Name{Namespace: key.Namespace, Name: key.ServiceAccount}}
	for _, in := range ingresses {
		g.Origins = append(g.Origins, object.Origin("Ingress", in))
		c.ingress(in)
	}
	slices.SortFunc(g.Origins, report.Origin.Compare)
	hosts := c.virtualHosts()
	g.Listeners = []model.GatewayListener{{Port: httpPort, Hosts: hosts}}
	certificates, faults := certificates(ingresses, around)
	if len(certificates) > 0 {
		g.Listeners = append(g.Listeners, model.GatewayListener{
			Port: httpsPort, TLS: true, Certificates: certificates, Hosts: covered(hosts, certificates),
		})
	}
	return g, append(c.findings, faults...)
}

// compiler gathers virtual hosts from Ingresses, older ones first.
type compiler struct {
	around Surroundings
	hosts  map[string]*virtualHost
	// standard is the oldest defaultBackend: it takes what no rule matches.
	standard *model.Route
	findings []report.Finding
}

// virtualHost is a host under construction.
type virtualHost struct {
	routes []model.Route
	owners map[path]report.Object
	// standard is the oldest defaultBackend of an Ingress with rules for this host.
	standard *model.Route
}

// path tells the rules of a host apart.
type path struct {
	match model.PathMatch
	path  string
}

func pathOf(m model.RouteMatch) path { return path{m.PathMatch, m.Path} }

func (c *compiler) host(name string) *virtualHost {
	h := c.hosts[name]
	if h == nil {
		h = &virtualHost{owners: map[path]report.Object{}}
		c.hosts[name] = h
	}
	return h
}

func (c *compiler) ingress(in *networkingv1.Ingress) {
	o := object.Origin("Ingress", in)
	var standard *model.Route
	if in.Spec.DefaultBackend != nil {
		route := c.route(o, "spec.defaultBackend", *in.Spec.DefaultBackend)
		route.Name = routeName(o, "default")
		route.Match = model.RouteMatch{PathMatch: model.PathPrefix, Path: "/"}
		standard = &route
		if c.standard == nil {
			c.standard = standard
		} else if len(in.Spec.Rules) == 0 {
			c.findings = append(c.findings, object.Refused(o, report.Conflict, "spec.defaultBackend",
				"%s, which is older, has a default backend already", c.standard.Origins[0].Object))
		}
	}
	for i, rule := range in.Spec.Rules {
		field := fmt.Sprintf("spec.rules[%d]", i)
		name := anyHost
		if rule.Host != "" {
			read, err := object.Host(rule.Host)
			if err != nil {
				c.findings = append(c.findings, object.Refused(o, report.Invalid, field+".host", "%v", err))
				continue
			}
			name = read
		}
		h := c.host(name)
		if h.standard == nil {
			h.standard = standard
		}
		if rule.HTTP == nil {
			continue
		}
		for j, p := range rule.HTTP.Paths {
			c.path(h, o, fmt.Sprintf("rules[%d].paths[%d]", i, j), fmt.Sprintf("%s.http.paths[%d]", field, j), p)
		}
	}
}

func (c *compiler) path(h *virtualHost, o report.Origin, rule, field string, p networkingv1.HTTPIngressPath) {
	match, err := pathMatch(p)
	if err != nil {
		c.findings = append(c.findings, object.Refused(o, report.Invalid, field+".path", "%v", err))
		return
	}
	if owner, taken := h.owners[pathOf(match)]; taken {
		c.findings = append(c.findings, object.Refused(o, report.Conflict, field+".path",
			"%s has this host and path already, and came first: remove one", owner))
		return
	}
	h.owners[pathOf(match)] = o.Object
	o.Rule = rule
	route := c.route(o, field+".backend", p.Backend)
	route.Name = routeName(o, rule)
	route.Match = match
	h.routes = append(h.routes, route)
}

func routeName(o report.Origin, rule string) string {
	return "Ingress/" + o.Namespace + "/" + o.Name + "|" + rule
}

// pathMatch reads a path; ImplementationSpecific is Prefix.
func pathMatch(p networkingv1.HTTPIngressPath) (model.RouteMatch, error) {
	exact := p.PathType != nil && *p.PathType == networkingv1.PathTypeExact
	path := p.Path
	if path == "" && !exact {
		path = "/"
	}
	if !strings.HasPrefix(path, "/") {
		return model.RouteMatch{}, fmt.Errorf("%q does not begin with /", p.Path)
	}
	for _, bad := range []string{"//", "/./", "/../", "%2f", "%2F", "?", "#"} {
		if strings.Contains(path, bad) {
			return model.RouteMatch{}, fmt.Errorf("%q contains %q, which the path of no request does", p.Path, bad)
		}
	}
	if exact {
		return model.RouteMatch{PathMatch: model.PathExact, Path: path}, nil
	}
	if path != "/" {
		path = strings.TrimSuffix(path, "/")
	}
	return model.RouteMatch{PathMatch: model.PathPrefix, Path: path}, nil
}

// route resolves a backend. What cannot be resolved gives a route without
// backends: requests that belong to it get 503, and fall to no other route. A
// Service without ready endpoints stays the backend (its 503 is the same), so
// that an endpoint that becomes ready changes no route.
func (c *compiler) route(o report.Origin, field string, b networkingv1.IngressBackend) model.Route {
	route := model.Route{Origins: []report.Origin{o}}
	unresolved := func(r report.Reason, sub, format string, args ...any) model.Route {
		whole := o
		whole.Rule = ""
		c.findings = append(c.findings, object.Unresolved(whole, r, field+sub, format, args...))
		return route
	}
	if b.Service == nil {
		return unresolved(report.Unsupported, "", "only a Service can be a backend")
	}
	name := model.Name{Namespace: o.Namespace, Name: b.Service.Name}
	backend := c.around.Backend(name, b.Service.Port)
	switch {
	case !backend.Service:
		return unresolved(report.NotFound, ".service.name", "there is no Service %s: requests get 503", name)
	case !backend.Port:
		return unresolved(report.PortNotFound, ".service.port", "Service %s has no TCP port %s: requests get 503", name, portText(b.Service.Port))
	}
	route.Backends = []model.WeightedBackend{{Ref: backend.Ref, Weight: 1}}
	route.Traffic = backend.Traffic
	if !backend.Ready {
		return unresolved(report.NoEndpoints, ".service", "Service %s has no ready endpoint: requests get 503", name)
	}
	return route
}

func portText(p networkingv1.ServiceBackendPort) string {
	if p.Name != "" {
		return fmt.Sprintf("%q", p.Name)
	}
	return fmt.Sprint(p.Number)
}

// virtualHosts are sorted: exact names, then wildcards, then "*".
func (c *compiler) virtualHosts() []model.VirtualHost {
	if c.standard != nil {
		c.host(anyHost)
	}
	var out []model.VirtualHost
	for name, h := range c.hosts {
		routes := slices.Clone(h.routes)
		slices.SortStableFunc(routes, compareRoutes)
		standard := h.standard
		if standard == nil {
			standard = c.standard
		}
		all := model.RouteMatch{PathMatch: model.PathPrefix, Path: "/"}
		if _, taken := h.owners[pathOf(all)]; standard != nil && !taken {
			routes = append(routes, *standard)
		}
		out = append(out, model.VirtualHost{Host: name, OneLabel: strings.HasPrefix(name, "*."), Routes: routes})
	}
	slices.SortFunc(out, func(a, b model.VirtualHost) int {
		return cmp.Or(cmp.Compare(generality(a.Host), generality(b.Host)), cmp.Compare(a.Host, b.Host))
	})
	return out
}

// compareRoutes: exact paths first, then longer prefixes; equal paths of one
// host were refused before.
func compareRoutes(a, b model.Route) int {
	return cmp.Or(
		-cmp.Compare(a.Match.PathMatch, b.Match.PathMatch),
		-cmp.Compare(len(a.Match.Path), len(b.Match.Path)),
		cmp.Compare(a.Match.Path, b.Match.Path),
	)
}

func generality(host string) int {
	switch {
	case host == anyHost:
		return 2
	case strings.HasPrefix(host, "*."):
		return 1
	}
	return 0
}
