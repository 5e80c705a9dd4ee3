package services

import (
	"cmp"
	"slices"

	"github.com/meshd-io/meshd/pkg/compile/object"
	"github.com/meshd-io/meshd/pkg/identity"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// Carriage is how a Service's ports, or a namespace's pods, are called: merged TrafficPolicies.
type Carriage struct {
	Traffic *model.Traffic
	// Protocol goes over what ports declare; Undeclared is none.
	Protocol model.Protocol
	// ProtocolOrigin is the policy that says Protocol.
	ProtocolOrigin report.Origin
}

// claim is what a Service's port says of a port that it leads to.
type claim struct {
	port     uint16 // of the pod
	number   uint16 // of the Service's port
	protocol model.Protocol
	service  *Service
	origins  []report.Origin
	// traffic is how the pod's own address is called where the Service is headless; nil where it is not.
	traffic *model.Traffic
}

// claimKey is equal where the same is said of several pods.
type claimKey struct {
	port, number uint16
	service      model.Name
}

func (c claim) key() claimKey { return claimKey{c.port, c.number, c.service.Name} }

// claims of all ports of a pod.
type claims []claim

func (cs claims) of(port uint16) claims {
	var out claims
	for _, c := range cs {
		if c.port == port {
			out = append(out, c)
		}
	}
	return out
}

// Claim is a Lead with the Service and how it is called.
type Claim struct {
	Lead     Lead
	Service  *Service
	Carriage Carriage
}

// Spoken is a pod whose ports are known.
type Spoken struct {
	Pod     *model.Pod
	gateway bool
	claims  claims
}

// Speak adds to a pod the ports that Services lead to, and how its own address
// is called, which is how headless Services are called. namespace is how its
// namespace's pods are called.
func Speak(p *Pod, leads []Claim, namespace Carriage) *Spoken {
	all := make(claims, 0, len(leads))
	for _, l := range leads {
		port := l.Service.ports[l.Lead.index]
		c := claim{port: l.Lead.port, number: port.number, service: l.Service}
		c.protocol, c.origins = l.Service.speaks(port, l.Carriage)
		if l.Service.headless {
			c.traffic = l.Carriage.Traffic
		}
		all = append(all, c)
	}
	out := p.Pod
	out.Ports = slices.Clone(p.Ports)
	speak(&out, all, namespace)
	return &Spoken{Pod: &out, gateway: p.gateway, claims: all}
}

// Group makes a workload of its pods, sorted by name, and decides what its
// ports speak. Modes and authorisation are still missing: policies fill them
// in. leading are the Services that lead to a port, sorted.
func Group(key model.WorkloadKey, trustDomain string, pods []*Spoken) (w *model.Workload, leading func(port uint16) []model.Name, fs []report.Finding) {
	id, _ := identity.New(trustDomain, key.Namespace, key.ServiceAccount) // of a pod that has its key
	w = &model.Workload{Key: key, Identity: id.String(), Rest: model.InboundPort{Protocol: model.TCP}}
	var all claims
	known, claimed := map[uint16]bool{}, map[claimKey]bool{}
	for _, pod := range pods {
		w.Pods = append(w.Pods, pod.Pod.Name)
		if pod.gateway {
			continue // what a gateway listens on is its Gateway's
		}
		for _, p := range pod.Pod.Ports {
			if !known[p.Port] {
				known[p.Port] = true
				w.Ports = append(w.Ports, model.InboundPort{Port: p.Port, Protocol: p.Protocol})
			}
		}
		for _, c := range pod.claims {
			if !claimed[c.key()] { // by another pod
				claimed[c.key()] = true
				all = append(all, c)
			}
		}
	}
	slices.SortFunc(w.Ports, func(a, b model.InboundPort) int { return cmp.Compare(a.Port, b.Port) })
	leading = func(port uint16) []model.Name {
		var out []model.Name
		for _, c := range all.of(port) {
			out = append(out, c.service.Name)
		}
		slices.SortFunc(out, model.Name.Compare)
		return slices.Compact(out)
	}
	return w, leading, settle(w, all)
}

// settle gives each port of a workload the protocol of its oldest claim, and
// tells the Services that say something else.
func settle(w *model.Workload, claims claims) []report.Finding {
	var fs []report.Finding
	for i := range w.Ports {
		p := &w.Ports[i]
		own := claims.of(p.Port)
		winner, ok := decide(own)
		if !ok {
			continue
		}
		p.Protocol, p.Origins = winner.protocol, winner.origins
		for _, c := range own {
			if c.protocol != model.Undeclared && c.protocol != winner.protocol {
				fs = append(fs, object.Refused(c.service.origin, report.Conflict, "spec.ports",
					"port %d leads to port %d of pods for which %s port %d, which is older, declares another protocol: let them agree",
					c.number, p.Port, winner.service.origin.Object, winner.number))
			}
		}
	}
	return fs
}

// decide gives the oldest claim that declares a protocol.
func decide(claims claims) (claim, bool) {
	var winner claim
	found := false
	for _, c := range claims {
		if c.protocol == model.Undeclared {
			continue
		}
		if !found || c.older(winner) {
			winner, found = c, true
		}
	}
	return winner, found
}

func (c claim) older(d claim) bool {
	return cmp.Or(c.service.age.Compare(d.service.age), cmp.Compare(c.number, d.number)) < 0
}

// speaks is the protocol of a Service's port and the objects that say so.
func (s *Service) speaks(p port, c Carriage) (model.Protocol, []report.Origin) {
	if c.Protocol != model.Undeclared {
		return c.Protocol, sortOrigins([]report.Origin{s.origin, c.ProtocolOrigin})
	}
	return p.declared, s.origins
}

// speak adds the ports that Services lead to, and how the pod's own address is
// called: headless Services are called by it.
func speak(p *model.Pod, claims claims, namespace Carriage) {
	p.Traffic = namespace.Traffic
	for _, c := range claims {
		if !slices.ContainsFunc(p.Ports, func(q model.PodPort) bool { return q.Port == c.port }) {
			p.Ports = append(p.Ports, model.PodPort{Port: c.port, Protocol: protocolNumbered(c.port)})
		}
	}
	slices.SortFunc(p.Ports, func(a, b model.PodPort) int { return cmp.Compare(a.Port, b.Port) })
	for i := range p.Ports {
		port := &p.Ports[i]
		port.Traffic = namespace.Traffic
		own := claims.of(port.Port)
		if namespace.Protocol != model.Undeclared && len(own) == 0 {
			port.Protocol = namespace.Protocol
		}
		if c, ok := decide(own); ok {
			port.Protocol = c.protocol
		}
		var headless *claim
		for j := range own {
			if own[j].traffic != nil && (headless == nil || own[j].older(*headless)) {
				headless = &own[j]
			}
		}
		if headless != nil {
			port.Traffic = headless.traffic
		}
	}
}

func sortOrigins(os []report.Origin) []report.Origin {
	slices.SortFunc(os, report.Origin.Compare)
	return slices.Compact(os)
}
