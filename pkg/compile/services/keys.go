package services

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/meshd-io/meshd/pkg/compile/object"
	"github.com/meshd-io/meshd/pkg/identity"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// Profile is what selectors can tell the pods of a namespace apart by: the
// labels that any of them looks at.
type Profile struct {
	Namespace string
	Labels    string // k=v pairs, sorted, joined by commas
}

// Compare orders by namespace, then labels.
func (p Profile) Compare(q Profile) int {
	return cmp.Or(cmp.Compare(p.Namespace, q.Namespace), cmp.Compare(p.Labels, q.Labels))
}

// Pairs calls f with each label.
func (p Profile) Pairs(f func(key, value string)) {
	if p.Labels == "" {
		return
	}
	for pair := range strings.SplitSeq(p.Labels, ",") {
		k, v, _ := strings.Cut(pair, "=")
		f(k, v)
	}
}

// Set are the labels as a map.
func (p Profile) Set() map[string]string {
	out := map[string]string{}
	p.Pairs(func(k, v string) { out[k] = v })
	return out
}

// Profile of a pod that has been given its key.
func (p *Pod) Profile() Profile { return p.profile }

// GiveKey sets the pod's profile and, in the mesh, the key of its workload.
// looked are the labels that selectors of its namespace look at.
func (p *Pod) GiveKey(trustDomain string, looked map[string]bool) []report.Finding {
	var pairs []string
	for k, v := range p.Labels {
		if looked[k] {
			pairs = append(pairs, k+"="+v)
		}
	}
	slices.Sort(pairs)
	p.profile = Profile{Namespace: p.Name.Namespace, Labels: strings.Join(pairs, ",")}
	if _, err := identity.New(trustDomain, p.Name.Namespace, p.ServiceAccount); err != nil {
		p.InMesh = false
		return []report.Finding{object.Refused(p.Origin, report.Invalid, "spec.serviceAccountName", "no identity can be made of it: %v", err)}
	}
	if p.InMesh {
		p.Key = model.WorkloadKey{
			Kind: model.Sidecar, Namespace: p.Name.Namespace, ServiceAccount: p.ServiceAccount,
			Labels: p.profile.Labels, PodCertificate: p.podCertificate,
		}
		if p.gateway {
			p.Key.Kind, p.Key.Labels = model.GatewayProxy, ""
		}
	}
	return nil
}

// Own are the addresses that tell the pod: those of a pod on its host's network are its node's.
func (p *Pod) Own() []netip.Addr {
	if p.hostNetwork {
		return nil
	}
	return p.Addresses
}

// AddressField is where its object has its addresses.
func (p *Pod) AddressField() string {
	if p.workload {
		return "spec.addresses"
	}
	return "status.podIPs"
}

// NameTaken is what is wrong with a Workload that has a pod's name.
func (p *Pod) NameTaken() report.Finding {
	return object.Refused(p.Origin, report.Conflict, "metadata.name", "a pod has the same name: give the Workload another")
}

// Owner decides whose an address is, of pods in the order of their names. A pod
// that has gone may still be listed while its address is another's: the ready
// one counts, then the newest.
func Owner(pods []*Pod, address netip.Addr) (*Pod, []report.Finding) {
	var fs []report.Finding
	var owner *Pod
	for _, pod := range pods {
		winner, loser := pod, owner
		if loser != nil && loser.supersedes(pod) {
			winner, loser = loser, pod
		}
		owner = winner
		if loser != nil && loser.workload {
			fs = append(fs, object.Refused(loser.Origin, report.Conflict, "spec.addresses", "%s is the address of %s", address, winner.Origin.Object))
		}
	}
	return owner, fs
}

// supersedes reports whether an address that both have is p's.
func (p *Pod) supersedes(q *Pod) bool {
	if p.workload != q.workload {
		return q.workload
	}
	if p.workload {
		return p.age.Compare(q.age) < 0
	}
	if p.Ready != q.Ready {
		return p.Ready
	}
	return p.age.Compare(q.age) > 0
}

// Identities are the SPIFFE IDs of pods, in the trust domain and its aliases, sorted.
func Identities(pods []*Pod, trustDomain string, aliases []string) []string {
	type account struct{ namespace, name string }
	var out []string
	seen := map[account]bool{}
	for _, p := range pods {
		a := account{p.Name.Namespace, p.ServiceAccount}
		if seen[a] {
			continue
		}
		seen[a] = true
		id, err := identity.New(trustDomain, a.namespace, a.name)
		if err != nil {
			continue // its pod has the finding
		}
		out = append(out, id.String())
		for _, alias := range aliases {
			if same, err := id.WithTrustDomain(alias); err == nil {
				out = append(out, same.String())
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
