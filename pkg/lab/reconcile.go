package lab

import (
	"context"
	"net/netip"
	"reflect"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/meshd-io/meshd/pkg/lab/control"
	"github.com/meshd-io/meshd/pkg/lab/dns"
	"github.com/meshd-io/meshd/pkg/lab/network"
	"github.com/meshd-io/meshd/pkg/lab/store"
)

// loop follows the store until ctx is done.
func (d *daemon) loop(ctx context.Context) {
	for {
		changed := d.reconcile()
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// maxRounds bounds the controllers: they come to rest within a few rounds.
const maxRounds = 20

// reconcile brings everything in line with the store. The channel is closed at
// the next change.
func (d *daemon) reconcile() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	view, changed := d.store.View()
	for range maxRounds {
		a := control.Plan(view, suffix)
		if !d.act(view, a) && !d.keepMesh(view) {
			break
		}
		view, changed = d.store.View()
	}
	if err := d.mirror.Sync(view); err != nil {
		d.log.Error("files for meshd", "error", err)
	}
	d.serveNames(view)
	// Last: a pod is told to end when nothing leads to it any more.
	d.kubelet.Sync(view)
	return changed
}

// serveNames brings service proxy and DNS up to date.
func (d *daemon) serveNames(view store.View) {
	ports, names := services(view), records(view)
	if !reflect.DeepEqual(ports, d.ports) {
		if err := d.network.SetServices(ports); err != nil {
			d.log.Error("service proxy", "error", err)
		} else {
			d.ports = ports
		}
	}
	if !reflect.DeepEqual(names, d.names) {
		d.dns.SetRecords(names)
		d.names = names
	}
}

// act carries out the controllers' steps. It reports whether anything was changed.
func (d *daemon) act(view store.View, a control.Actions) bool {
	did := false
	for _, p := range a.Create {
		injected, err := d.inject(view, p)
		if err != nil {
			d.log.Error("pod is not created", "pod", p.Namespace+"/"+p.Name, "error", err)
			continue
		}
		if err := d.store.Create(injected); err == nil {
			did = true
		}
	}
	for _, p := range a.Delete {
		did = d.store.Delete(store.KeyOf(p)) || did
	}
	for _, o := range a.Put {
		d.store.Put(o)
		did = true
	}
	for _, k := range a.Remove {
		d.store.Remove(k)
		did = true
	}
	return did
}

// services are the service proxy's rules.
func services(view store.View) []network.ServicePort {
	slices := slicesByService(view)
	var out []network.ServicePort
	for _, svc := range store.List[*corev1.Service](view) {
		for _, ip := range append(append([]string(nil), svc.Spec.ClusterIPs...), svc.Spec.ExternalIPs...) {
			addr, err := netip.ParseAddr(ip)
			if err != nil {
				continue // None
			}
			for _, sp := range svc.Spec.Ports {
				if sp.Protocol != corev1.ProtocolTCP && sp.Protocol != corev1.ProtocolUDP {
					continue
				}
				out = append(out, network.ServicePort{
					IP: addr, Port: uint16(sp.Port), Protocol: network.Protocol(sp.Protocol),
					Endpoints: endpoints(slices[svc.Namespace+"/"+svc.Name], sp.Name, addr.Is4()),
				})
			}
		}
	}
	return out
}

func slicesByService(view store.View) map[string][]*discoveryv1.EndpointSlice {
	out := map[string][]*discoveryv1.EndpointSlice{}
	for _, s := range store.List[*discoveryv1.EndpointSlice](view) {
		key := s.Namespace + "/" + s.Labels[discoveryv1.LabelServiceName]
		out[key] = append(out[key], s)
	}
	return out
}

// endpoints are the ready ones of a port.
func endpoints(slices []*discoveryv1.EndpointSlice, port string, is4 bool) []netip.AddrPort {
	var out []netip.AddrPort
	for _, s := range slices {
		number := int32(0)
		for _, p := range s.Ports {
			if p.Port != nil && (p.Name == nil && port == "" || p.Name != nil && *p.Name == port) {
				number = *p.Port
			}
		}
		if number == 0 {
			continue
		}
		for _, a := range addresses(s) {
			if a.Is4() == is4 {
				out = append(out, netip.AddrPortFrom(a, uint16(number)))
			}
		}
	}
	return out
}

// addresses are those of the ready endpoints.
func addresses(s *discoveryv1.EndpointSlice) []netip.Addr {
	var out []netip.Addr
	for _, e := range s.Endpoints {
		if e.Conditions.Ready != nil && !*e.Conditions.Ready {
			continue
		}
		for _, text := range e.Addresses {
			if a, err := netip.ParseAddr(text); err == nil {
				out = append(out, a)
			}
		}
	}
	return out
}

// records are the DNS server's names.
func records(view store.View) dns.Records {
	slices := slicesByService(view)
	r := dns.Records{Static: externalNames(view)}
	for _, svc := range store.List[*corev1.Service](view) {
		s := dns.Service{Namespace: svc.Namespace, Name: svc.Name, ExternalName: svc.Spec.ExternalName, Hosts: map[string][]netip.Addr{}}
		for _, ip := range svc.Spec.ClusterIPs {
			if a, err := netip.ParseAddr(ip); err == nil {
				s.Addrs = append(s.Addrs, a)
			}
		}
		for _, slice := range slices[svc.Namespace+"/"+svc.Name] {
			if svc.Spec.ClusterIP == corev1.ClusterIPNone {
				s.Addrs = append(s.Addrs, addresses(slice)...)
			}
			for _, e := range slice.Endpoints {
				if e.Hostname == nil {
					continue
				}
				for _, text := range e.Addresses {
					if a, err := netip.ParseAddr(text); err == nil {
						s.Hosts[*e.Hostname] = append(s.Hosts[*e.Hostname], a)
					}
				}
			}
		}
		for _, p := range svc.Spec.Ports {
			if p.Name != "" {
				s.Ports = append(s.Ports, dns.Port{Name: p.Name, Protocol: protocolName(p.Protocol), Port: uint16(p.Port)})
			}
		}
		r.Services = append(r.Services, s)
	}
	return r
}

func protocolName(p corev1.Protocol) string {
	if p == corev1.ProtocolUDP {
		return "udp"
	}
	return "tcp"
}
