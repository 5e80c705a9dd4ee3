package services

import (
	"net/netip"
	"slices"

	"github.com/meshd-io/meshd/pkg/compile/object"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// Compile makes the model's Service of everything that is known of it.
func Compile(s *Service, e *Endpoints, c Carriage, identities []string, mtls func(pod model.Name, port uint16) bool) *model.Service {
	out := &model.Service{Name: s.Name, Addresses: s.addresses, Headless: s.headless, Origin: s.origin}
	for i, p := range s.ports {
		protocol, origins := s.speaks(p, c)
		usable := e.usable(s, i)
		endpoints := make([]model.Endpoint, 0, len(usable))
		for _, e := range usable {
			one := model.Endpoint{Address: e.address, Zone: e.zone, Pod: e.pod}
			one.MTLS = e.isPod && mtls(e.pod, e.address.Port())
			endpoints = append(endpoints, one)
		}
		out.Ports = append(out.Ports, model.ServicePort{Name: p.name, Port: p.number, Backend: model.Backend{
			Ref:        model.BackendRef{Service: s.Name, Port: p.number},
			Protocol:   protocol,
			Traffic:    *c.Traffic,
			Identities: identities,
			Endpoints:  endpoints,
			Origins:    origins,
		}})
	}
	return out
}

// TakesMTLS reports whether a pod's port takes mesh mutual TLS; w is its workload.
func (p *Pod) TakesMTLS(w *model.Workload, port uint16) bool {
	return p.InMesh && !slices.Contains(p.Uncaptured, port) && modeAt(w, port) != model.Disable
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

// Holder decides which of some Services, sorted by name, an address is of: the oldest.
func Holder(all []*Service, a netip.Addr) (*Service, []report.Finding) {
	var fs []report.Finding
	var holder *Service
	for _, s := range all {
		winner, loser := s, holder
		if holder != nil && holder.age.Compare(s.age) < 0 {
			winner, loser = holder, s
		}
		if loser != nil {
			fs = append(fs, object.Refused(loser.origin, report.Conflict, "spec.clusterIPs",
				"%s is the address of %s, which is older", a, winner.origin.Object))
		}
		holder = winner
	}
	return holder, fs
}
