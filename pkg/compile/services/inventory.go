package services

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/meshd-io/meshd/pkg/compile/object"
	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/identity"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// Config is what the inventory needs beside the snapshot.
type Config struct {
	TrustDomain string
	Aliases     []string
	// SystemNamespace is where the ingress gateway's pods are.
	SystemNamespace string
	// SelectorKeys are, by namespace, the label keys that policies' selectors look at.
	SelectorKeys map[string]map[string]bool
}

// Inventory is who and what there is, before any policy.
type Inventory struct {
	config     Config
	pods       map[model.Name]*Pod
	byAddress  map[netip.Addr]*Pod
	namespaces map[string][]*Pod // sorted by name
	services   []*Service        // sorted by name
	byName     map[model.Name]*Service
	leading    map[lead][]model.Name    // sorted
	identities map[identity.ID][]string // with the aliases of the trust domain, sorted
}

// Take reads pods, Workload objects, Services and EndpointSlices, and finds
// which ports of which pods each Service leads to.
func Take(snap *crds.Snapshot, config Config) (*Inventory, []report.Finding) {
	inv := &Inventory{
		config:     config,
		pods:       map[model.Name]*Pod{},
		byAddress:  map[netip.Addr]*Pod{},
		namespaces: map[string][]*Pod{},
		byName:     map[model.Name]*Service{},
		leading:    map[lead][]model.Name{},
		identities: map[identity.ID][]string{},
	}
	fs := inv.takePods(snap)
	fs = append(fs, inv.takeAddresses()...)
	for _, s := range snap.Services {
		if service, ok := serviceOf(s); ok {
			inv.services = append(inv.services, service)
			inv.byName[service.Name] = service
		}
	}
	slices.SortFunc(inv.services, func(a, b *Service) int { return a.Name.Compare(b.Name) })
	inv.giveKeys()
	fs = append(fs, inv.takeSlices(snap)...)
	inv.lead()
	return inv, fs
}

func (inv *Inventory) takePods(snap *crds.Snapshot) []report.Finding {
	var fs []report.Finding
	for _, p := range snap.Pods {
		if pod, ok := podOf(p, inv.config.SystemNamespace); ok {
			inv.pods[pod.Name] = pod
		}
	}
	for _, w := range snap.Workloads {
		pod, faults := workloadOf(w)
		fs = append(fs, faults...)
		if pod == nil {
			continue
		}
		if _, taken := inv.pods[pod.Name]; taken {
			fs = append(fs, object.Refused(pod.Origin, report.Conflict, "metadata.name", "a pod has the same name: give the Workload another"))
			continue
		}
		inv.pods[pod.Name] = pod
	}
	for _, pod := range inv.pods {
		id, f := identityOf(inv.config.TrustDomain, pod)
		if f != nil {
			fs = append(fs, *f)
			pod.InMesh = false
		} else if inv.identities[id] == nil {
			inv.identities[id] = withAliases(id, inv.config.Aliases)
		}
		slices.SortFunc(pod.Ports, func(a, b model.PodPort) int { return cmp.Compare(a.Port, b.Port) })
		inv.namespaces[pod.Name.Namespace] = append(inv.namespaces[pod.Name.Namespace], pod)
	}
	for _, pods := range inv.namespaces {
		slices.SortFunc(pods, func(a, b *Pod) int { return a.Name.Compare(b.Name) })
	}
	return fs
}

// takeAddresses decides whose an address is. A pod that has gone may still be
// listed while its address is another's: the ready one counts, then the newest.
func (inv *Inventory) takeAddresses() []report.Finding {
	var fs []report.Finding
	for _, pod := range inv.sortedPods() {
		if pod.hostNetwork {
			continue
		}
		for _, a := range pod.Addresses {
			winner, loser := pod, inv.byAddress[a]
			if loser != nil && supersedes(loser, pod) {
				winner, loser = loser, pod
			}
			inv.byAddress[a] = winner
			if loser != nil && loser.workload {
				fs = append(fs, object.Refused(loser.Origin, report.Conflict, "spec.addresses", "%s is the address of %s", a, winner.Origin.Object))
			}
		}
	}
	return fs
}

// supersedes reports whether an address that both have is a's.
func supersedes(a, b *Pod) bool {
	if a.workload != b.workload {
		return b.workload
	}
	if a.workload {
		return object.Age(a.object, b.object) < 0
	}
	if a.Ready != b.Ready {
		return a.Ready
	}
	return object.Age(a.object, b.object) > 0
}

// giveKeys gives each pod in the mesh the key of its workload: only labels that
// a selector of its namespace looks at are part of it.
func (inv *Inventory) giveKeys() {
	looked := map[string]map[string]bool{}
	for ns, keys := range inv.config.SelectorKeys {
		looked[ns] = maps.Clone(keys)
	}
	for _, s := range inv.services {
		ns := s.Name.Namespace
		if looked[ns] == nil {
			looked[ns] = map[string]bool{}
		}
		for k := range s.object.Spec.Selector {
			looked[ns][k] = true
		}
	}
	for _, pod := range inv.pods {
		if pod.InMesh {
			pod.Key = keyOf(pod, looked[pod.Name.Namespace])
		}
	}
}

func keyOf(pod *Pod, looked map[string]bool) model.WorkloadKey {
	key := model.WorkloadKey{
		Kind: model.Sidecar, Namespace: pod.Name.Namespace, ServiceAccount: pod.ServiceAccount, PodCertificate: pod.podCertificate,
	}
	if pod.gateway {
		key.Kind = model.GatewayProxy
		return key
	}
	var pairs []string
	for k, v := range pod.Labels {
		if looked[k] {
			pairs = append(pairs, k+"="+v)
		}
	}
	slices.Sort(pairs)
	key.Labels = strings.Join(pairs, ",")
	return key
}

func (inv *Inventory) sortedPods() []*Pod {
	return slices.SortedFunc(maps.Values(inv.pods), func(a, b *Pod) int { return a.Name.Compare(b.Name) })
}

// withAliases writes an identity out in the trust domain and all its aliases.
func withAliases(id identity.ID, aliases []string) []string {
	out := []string{id.String()}
	for _, alias := range aliases {
		if same, err := id.WithTrustDomain(alias); err == nil {
			out = append(out, same.String())
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// identitiesOf are the SPIFFE IDs of pods, with aliases, sorted.
func (inv *Inventory) identitiesOf(pods []*Pod) []string {
	set := map[string]bool{}
	for _, p := range pods {
		id, err := identity.New(inv.config.TrustDomain, p.Name.Namespace, p.ServiceAccount)
		if err != nil {
			continue // its pod has the finding
		}
		for _, s := range inv.identities[id] {
			set[s] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// Model gives the pods as the model has them.
func (inv *Inventory) Model() (pods map[model.Name]*model.Pod, byAddress map[netip.Addr]*model.Pod) {
	pods = make(map[model.Name]*model.Pod, len(inv.pods))
	byAddress = make(map[netip.Addr]*model.Pod, len(inv.byAddress))
	for name, p := range inv.pods {
		pods[name] = &p.Pod
	}
	for a, p := range inv.byAddress {
		byAddress[a] = &p.Pod
	}
	return pods, byAddress
}

// Selects reports whether any pod of the namespace is matched.
func (inv *Inventory) Selects(namespace string, matches func(labels map[string]string) bool) bool {
	return slices.ContainsFunc(inv.namespaces[namespace], func(p *Pod) bool { return matches(p.Labels) })
}

// Known reports whether the mesh has a Service of that name.
func (inv *Inventory) Known(service model.Name) bool {
	return inv.byName[service] != nil
}

// ServiceNames lists the Services, sorted.
func (inv *Inventory) ServiceNames() []model.Name {
	names := make([]model.Name, len(inv.services))
	for i, s := range inv.services {
		names[i] = s.Name
	}
	return names
}

// Leading are the Services of its namespace that lead to a port of a workload, sorted.
func (inv *Inventory) Leading(key model.WorkloadKey, port uint16) []model.Name {
	return inv.leading[lead{key, port}]
}
