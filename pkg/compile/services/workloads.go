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
	Traffic model.Traffic
	// Protocol goes over what ports declare; Undeclared is none.
	Protocol model.Protocol
	// ProtocolOrigin is the policy that says Protocol.
	ProtocolOrigin report.Origin
}

// Carriages of all Services and namespaces.
type Carriages struct {
	Services   map[model.Name]Carriage
	Namespaces map[string]Carriage
	// Mesh is for namespaces without an entry.
	Mesh Carriage
}

func (c Carriages) namespace(ns string) Carriage {
	if in, ok := c.Namespaces[ns]; ok {
		return in
	}
	return c.Mesh
}

// claim is what a Service's port says of a port that it leads to.
type claim struct {
	service  *Service
	port     *port
	protocol model.Protocol
	origins  []report.Origin
	traffic  model.Traffic
}

// Workloads groups pods by key and decides what their ports speak. Modes and
// authorisation are still missing: policies fill them in.
func (inv *Inventory) Workloads(carriages Carriages) (map[model.WorkloadKey]*model.Workload, []report.Finding) {
	claims := inv.claims(carriages)
	out := map[model.WorkloadKey]*model.Workload{}
	names := map[model.WorkloadKey]map[uint16]string{}
	byKey := map[lead][]claim{}
	for _, pod := range inv.sortedPods() {
		own := claims[pod]
		pod.speak(own, carriages.namespace(pod.Name.Namespace))
		if !pod.InMesh {
			continue
		}
		w := out[pod.Key]
		if w == nil {
			id, _ := identity.New(inv.config.TrustDomain, pod.Key.Namespace, pod.Key.ServiceAccount) // checked by takePods
			w = &model.Workload{Key: pod.Key, Identity: id.String(), Rest: model.InboundPort{Protocol: model.TCP}}
			out[pod.Key], names[pod.Key] = w, map[uint16]string{}
		}
		w.Pods = append(w.Pods, pod.Name)
		if pod.gateway {
			continue // what a gateway listens on is its Gateway's
		}
		for _, p := range pod.Ports {
			if _, known := names[pod.Key][p.Port]; !known {
				names[pod.Key][p.Port] = p.Name
				w.Ports = append(w.Ports, model.InboundPort{Port: p.Port, Protocol: p.Protocol})
			}
			byKey[lead{pod.Key, p.Port}] = append(byKey[lead{pod.Key, p.Port}], own[p.Port]...)
		}
	}
	return out, settle(out, byKey)
}

// settle gives each port of each workload the protocol of its oldest claim, and
// tells the Services that say something else.
func settle(workloads map[model.WorkloadKey]*model.Workload, claims map[lead][]claim) []report.Finding {
	var fs []report.Finding
	for key, w := range workloads {
		slices.SortFunc(w.Ports, func(a, b model.InboundPort) int { return cmp.Compare(a.Port, b.Port) })
		for i := range w.Ports {
			p := &w.Ports[i]
			all := claims[lead{key, p.Port}]
			winner, ok := decide(all)
			if !ok {
				continue
			}
			p.Protocol, p.Origins = winner.protocol, winner.origins
			for _, c := range all {
				if c.protocol != model.Undeclared && c.protocol != winner.protocol {
					fs = append(fs, object.Refused(c.service.origin, report.Conflict, "spec.ports",
						"port %d leads to port %d of pods for which %s port %d, which is older, declares another protocol: let them agree",
						c.port.number, p.Port, winner.service.origin.Object, winner.port.number))
				}
			}
		}
	}
	return fs
}

// decide gives the oldest claim that declares a protocol.
func decide(claims []claim) (claim, bool) {
	var winner claim
	for _, c := range claims {
		if c.protocol == model.Undeclared {
			continue
		}
		if winner.service == nil || c.older(winner) {
			winner = c
		}
	}
	return winner, winner.service != nil
}

func (c claim) older(d claim) bool {
	return cmp.Or(object.Age(c.service.object, d.service.object), cmp.Compare(c.port.number, d.port.number)) < 0
}

// claims of all Services, by pod and port. A Service that leads to pods of
// another namespace, by hand-written endpoints, has no say in what they speak.
func (inv *Inventory) claims(carriages Carriages) map[*Pod]map[uint16][]claim {
	out := map[*Pod]map[uint16][]claim{}
	for _, s := range inv.services {
		carriage := carriages.Services[s.Name]
		for _, p := range s.ports {
			protocol, origins := s.speaks(p, carriage)
			for _, t := range p.targets {
				if t.pod.Name.Namespace != s.Name.Namespace {
					continue
				}
				if out[t.pod] == nil {
					out[t.pod] = map[uint16][]claim{}
				}
				out[t.pod][t.port] = append(out[t.pod][t.port], claim{s, p, protocol, origins, carriage.Traffic})
			}
		}
	}
	return out
}

// speaks is the protocol of a Service's port and the objects that say so.
func (s *Service) speaks(p *port, c Carriage) (model.Protocol, []report.Origin) {
	if c.Protocol != model.Undeclared {
		return c.Protocol, sortOrigins([]report.Origin{s.origin, c.ProtocolOrigin})
	}
	return p.declared, []report.Origin{s.origin}
}

// speak adds the ports that Services lead to, and how the pod's own address is
// called: headless Services are called by it.
func (p *Pod) speak(claims map[uint16][]claim, namespace Carriage) {
	p.Traffic = namespace.Traffic
	for n := range claims {
		if !slices.ContainsFunc(p.Ports, func(q model.PodPort) bool { return q.Port == n }) {
			p.Ports = append(p.Ports, model.PodPort{Port: n, Protocol: protocolNumbered(n)})
		}
	}
	slices.SortFunc(p.Ports, func(a, b model.PodPort) int { return cmp.Compare(a.Port, b.Port) })
	for i := range p.Ports {
		port := &p.Ports[i]
		port.Traffic = namespace.Traffic
		own := claims[port.Port]
		if namespace.Protocol != model.Undeclared && len(own) == 0 {
			port.Protocol = namespace.Protocol
		}
		if c, ok := decide(own); ok {
			port.Protocol = c.protocol
		}
		var headless *claim
		for j := range own {
			if own[j].service.headless() && (headless == nil || own[j].older(*headless)) {
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
