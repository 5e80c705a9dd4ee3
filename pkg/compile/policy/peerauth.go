package policy

import (
	"cmp"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/compile/object"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// PeerAuthentication is one in force.
type PeerAuthentication struct {
	Policy
	mode  model.Mode
	ports map[uint16]model.Mode
}

// ReadPeerAuthentication reads the object.
func ReadPeerAuthentication(obj *meshv1a1.PeerAuthentication) (*PeerAuthentication, []report.Finding) {
	c := &PeerAuthentication{Policy: policyOf("PeerAuthentication", obj), ports: map[uint16]model.Mode{}}
	ts, fs := readTargets(c.Origin, obj.Spec.TargetRefs, kindNamespace, kindPod)
	c.targets = ts
	refuse := func(r report.Reason, field, format string, args ...any) {
		fs = append(fs, object.Refused(c.Origin, r, field, format, args...))
	}
	mode, ok := Mode(obj.Spec.Mode)
	if !ok {
		refuse(report.Invalid, "spec.mode", "%q is not Strict, Permissive or Disable", obj.Spec.Mode)
	}
	c.mode = mode
	if obj.Spec.Ports != nil && len(obj.Spec.Ports) == 0 {
		refuse(report.Invalid, "spec.ports", "an empty list says nothing: leave the field out")
	}
	for i, p := range obj.Spec.Ports {
		field := fmt.Sprintf("spec.ports[%d]", i)
		mode, ok := Mode(p.Mode)
		port, valid := portNumber(p.Port)
		_, twice := c.ports[port]
		switch {
		case !ok:
			refuse(report.Invalid, field+".mode", "%q is not Strict, Permissive or Disable", p.Mode)
		case !valid:
			refuse(report.Invalid, field+".port", "%d is not a port number", p.Port)
		case twice:
			refuse(report.Invalid, field+".port", "port %d is named twice", p.Port)
		default:
			c.ports[port] = mode
		}
	}
	switch obj.Spec.Rollout {
	case "", "Immediate":
	case "WhenReady":
		refuse(report.Unsupported, "spec.rollout", "WhenReady is not carried out by this version of meshd: use Immediate")
	default:
		refuse(report.Invalid, "spec.rollout", "%q is not Immediate", obj.Spec.Rollout)
	}
	return c, fs
}

// Mode reads a mode of PeerAuthentication.
func Mode(m meshv1a1.PeerAuthenticationMode) (model.Mode, bool) {
	switch m {
	case meshv1a1.Strict:
		return model.Strict, true
	case meshv1a1.Permissive:
		return model.Permissive, true
	case meshv1a1.Disable:
		return model.Disable, true
	}
	return model.Strict, false
}

func portNumber(n int32) (uint16, bool) {
	if n < 1 || n > 65535 {
		return 0, false
	}
	return uint16(n), true
}

// applying is a PeerAuthentication of a workload.
type applying struct {
	*PeerAuthentication
	level  level
	target string // the reference by which it applies
}

// applyingTo are the policies that apply to pods with these labels: the most
// specific first, of one level the older.
func applyingTo(policies []*PeerAuthentication, podLabels labels.Set) []applying {
	var out []applying
	for _, c := range policies {
		if l, target := c.targets.best(podLabels); l != none {
			out = append(out, applying{c, l, target})
		}
	}
	slices.SortStableFunc(out, func(a, b applying) int { return cmp.Compare(b.level, a.level) })
	return out
}

// BindPeers puts modes on a workload's ports. A port that only a
// PeerAuthentication names becomes one of its ports. policies are those of
// the namespace that may apply, the older first.
func BindPeers(w *model.Workload, podLabels map[string]string, policies []*PeerAuthentication, d Defaults) []report.Finding {
	all := applyingTo(policies, podLabels)
	fs := overriddenPeers(all)
	for _, c := range all {
		for port := range c.ports {
			if !slices.ContainsFunc(w.Ports, func(q model.InboundPort) bool { return q.Port == port }) {
				w.Ports = append(w.Ports, model.InboundPort{Port: port})
			}
		}
	}
	slices.SortFunc(w.Ports, func(a, b model.InboundPort) int { return cmp.Compare(a.Port, b.Port) })
	d.bindMode(&w.Rest, all)
	for i := range w.Ports {
		d.bindMode(&w.Ports[i], all)
	}
	return fs
}

// bindMode: the most specific object that names the port, then the most
// specific object, then MeshConfig.
func (d Defaults) bindMode(port *model.InboundPort, all []applying) {
	origin := d.Origin
	port.Mode = d.Mode
	if len(all) > 0 {
		port.Mode, origin = all[0].mode, all[0].Origin
	}
	for _, c := range all {
		if mode, named := c.ports[port.Port]; named {
			port.Mode, origin = mode, c.Origin
			break
		}
	}
	if origin.Kind != "" {
		port.Origins = withOrigin(port.Origins, origin)
	}
}

// overriddenPeers tells the younger of two objects of one level what it does not decide.
func overriddenPeers(all []applying) []report.Finding {
	var fs []report.Finding
	told := func(loser, winner applying, field, format string, args ...any) {
		fs = append(fs, object.Overridden(loser.Origin, winner.Origin.Object, loser.target, field, "%s, which is older, "+format, append([]any{winner.Origin.Object}, args...)...))
	}
	for i, loser := range all {
		rivals := slices.DeleteFunc(slices.Clone(all[:i]), func(c applying) bool { return c.level != loser.level })
		if len(rivals) > 0 {
			told(loser, rivals[0], "spec.mode", "has the same target: its mode counts")
		}
		for port := range loser.ports {
			naming := func(c applying) bool { _, named := c.ports[port]; return named }
			if j := slices.IndexFunc(rivals, naming); j >= 0 {
				told(loser, rivals[j], "spec.ports", "decides on port %d", port)
			}
		}
	}
	return fs
}

// withOrigin gives a list with one more origin, sorted, and leaves the old list alone.
func withOrigin(os []report.Origin, o report.Origin) []report.Origin {
	out := append(slices.Clone(os), o)
	slices.SortFunc(out, report.Origin.Compare)
	return slices.Compact(out)
}
