package policy

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/compile/object"
	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// LastGood are the versions of policies that were in force before, by name.
type LastGood struct {
	PeerAuthentications   map[model.Name]*meshv1a1.PeerAuthentication
	AuthorizationPolicies map[model.Name]*meshv1a1.AuthorizationPolicy
	TrafficPolicies       map[model.Name]*meshv1a1.TrafficPolicy
}

// Defaults are MeshConfig's, where no policy says otherwise.
type Defaults struct {
	Mode        model.Mode
	DefaultDeny bool
	Traffic     Settings
	// Origin is MeshConfig's; its Kind is "" where there is none.
	Origin report.Origin
	// TrustDomain and Aliases that identities in policies are of.
	TrustDomain string
	Aliases     []string
}

// Policies are all policies that are in force.
type Policies struct {
	defaults Defaults
	peers    []peerAuthentication // older first
	authz    []authorization      // by name
	traffic  []trafficPolicy      // older first

	peersAt, authzAt, trafficAt index
}

// Read reads the policies of a snapshot, falling back to last good versions.
func Read(snap *crds.Snapshot, defaults Defaults, last LastGood) (*Policies, []report.Finding) {
	p := &Policies{defaults: defaults}
	var fs []report.Finding
	for _, obj := range snap.PeerAuthentications {
		c, ok, faults := inForce(obj, last.PeerAuthentications[object.Name(obj)], readPeerAuthentication)
		fs = append(fs, faults...)
		if ok {
			p.peers = append(p.peers, c)
		}
	}
	readAuthz := func(obj *meshv1a1.AuthorizationPolicy) (authorization, []report.Finding) {
		return readAuthorization(obj, defaults)
	}
	for _, obj := range snap.AuthorizationPolicies {
		c, ok, faults := inForce(obj, last.AuthorizationPolicies[object.Name(obj)], readAuthz)
		fs = append(fs, faults...)
		if !ok {
			c.rules = nil // an Allow without rules allows nothing, a Deny without rules denies all
		}
		p.authz = append(p.authz, c)
	}
	for _, obj := range snap.TrafficPolicies {
		c, ok, faults := inForce(obj, last.TrafficPolicies[object.Name(obj)], readTrafficPolicy)
		fs = append(fs, faults...)
		if ok {
			p.traffic = append(p.traffic, c)
		}
	}
	for _, obj := range snap.RequestAuthentications {
		fs = append(fs, object.Refused(object.Origin("RequestAuthentication", obj), report.Unsupported, "",
			"this version of meshd does not check JWTs: remove the object, and keep such requests away by other means"))
	}
	slices.SortFunc(p.peers, func(a, b peerAuthentication) int { return object.Age(a.object, b.object) })
	slices.SortFunc(p.traffic, func(a, b trafficPolicy) int { return object.Age(a.object, b.object) })
	slices.SortFunc(p.authz, func(a, b authorization) int { return object.Name(a.object).Compare(object.Name(b.object)) })
	p.peersAt = indexOf(len(p.peers), func(i int) (string, targets) { return p.peers[i].origin.Namespace, p.peers[i].targets })
	p.authzAt = indexOf(len(p.authz), func(i int) (string, targets) { return p.authz[i].origin.Namespace, p.authz[i].targets })
	p.trafficAt = indexOf(len(p.traffic), func(i int) (string, targets) { return p.traffic[i].origin.Namespace, p.traffic[i].targets })
	return p, fs
}

// inForce reads an object; where it cannot be compiled, its last good version.
// ok is false where neither can: the value is then what could be read.
func inForce[O interface {
	comparable
	metav1.Object
}, C any](obj, last O, read func(O) (C, []report.Finding)) (c C, ok bool, faults []report.Finding) {
	c, fs := read(obj)
	if !refused(fs) {
		return c, true, fs
	}
	var absent O
	if last != absent && last.GetUID() == obj.GetUID() {
		if before, faults := read(last); !refused(faults) {
			return before, true, fs
		}
	}
	return c, false, fs
}

// refused reports whether an object with these findings is not in force.
func refused(fs []report.Finding) bool {
	return slices.ContainsFunc(fs, func(f report.Finding) bool {
		return f.Condition == report.Accepted && !f.Reason.Informs()
	})
}

// SelectorKeys are, by namespace, the label keys that selectors look at.
func (p *Policies) SelectorKeys() map[string]map[string]bool {
	out := map[string]map[string]bool{}
	add := func(ns string, ts targets) {
		for _, t := range ts {
			for _, k := range t.keys {
				if out[ns] == nil {
					out[ns] = map[string]bool{}
				}
				out[ns][k] = true
			}
		}
	}
	for _, c := range p.peers {
		add(c.origin.Namespace, c.targets)
	}
	for _, c := range p.authz {
		add(c.origin.Namespace, c.targets)
	}
	return out
}

// Unresolved tells which policies name something that does not exist.
func (p *Policies) Unresolved(inv inventory) []report.Finding {
	var fs []report.Finding
	for _, c := range p.peers {
		fs = append(fs, c.targets.unresolved(c.origin, inv)...)
	}
	for _, c := range p.authz {
		fs = append(fs, c.targets.unresolved(c.origin, inv)...)
	}
	for _, c := range p.traffic {
		fs = append(fs, c.targets.unresolved(c.origin, inv)...)
	}
	return fs
}
