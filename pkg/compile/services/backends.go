package services

import (
	"net/netip"
	"slices"

	"github.com/meshd-io/meshd/pkg/compile/object"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// Services compiles the Services, now that the modes of workloads' ports are known.
func (inv *Inventory) Services(carriages Carriages, workloads map[model.WorkloadKey]*model.Workload) (byName map[model.Name]*model.Service, byAddress map[netip.Addr]*model.Service, fs []report.Finding) {
	byName = make(map[model.Name]*model.Service, len(inv.services))
	byAddress = map[netip.Addr]*model.Service{}
	owners := map[netip.Addr]*Service{}
	for _, s := range inv.services {
		compiled := &model.Service{
			Name:      s.Name,
			Addresses: s.addresses(),
			Headless:  s.headless(),
			Origin:    s.origin,
		}
		identities := inv.identitiesOf(s.pods)
		carriage := carriages.Services[s.Name]
		for _, p := range s.ports {
			protocol, origins := s.speaks(p, carriage)
			compiled.Ports = append(compiled.Ports, model.ServicePort{Name: p.name, Port: p.number, Backend: model.Backend{
				Ref:        model.BackendRef{Service: s.Name, Port: p.number},
				Protocol:   protocol,
				Traffic:    carriage.Traffic,
				Identities: identities,
				Endpoints:  p.compile(s, workloads),
				Origins:    origins,
			}})
		}
		byName[s.Name] = compiled
		for _, a := range compiled.Addresses {
			other := owners[a]
			if other != nil && object.Age(other.object, s.object) < 0 {
				fs = append(fs, taken(s, other, a))
				continue
			}
			if other != nil {
				fs = append(fs, taken(other, s, a))
			}
			owners[a], byAddress[a] = s, compiled
		}
	}
	return byName, byAddress, fs
}

func taken(loser, winner *Service, a netip.Addr) report.Finding {
	return object.Refused(loser.origin, report.Conflict, "spec.clusterIPs", "%s is the address of %s, which is older", a, winner.origin.Object)
}

func (p *port) compile(s *Service, workloads map[model.WorkloadKey]*model.Workload) []model.Endpoint {
	var out []model.Endpoint
	for _, e := range p.usable(s.family()) {
		compiled := model.Endpoint{Address: e.address, Zone: e.zone}
		if e.pod != nil {
			compiled.Pod = e.pod.Name
			compiled.MTLS = e.pod.InMesh && !slices.Contains(e.pod.Uncaptured, e.address.Port()) &&
				modeAt(workloads[e.pod.Key], e.address.Port()) != model.Disable
		}
		out = append(out, compiled)
	}
	return out
}

// modeAt is the mode of a workload's port, declared or not.
func modeAt(w *model.Workload, port uint16) model.Mode {
	for i := range w.Ports {
		if w.Ports[i].Port == port {
			return w.Ports[i].Mode
		}
	}
	return w.Rest.Mode
}
