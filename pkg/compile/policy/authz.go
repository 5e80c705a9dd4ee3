package policy

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/compile/object"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// Authorization is an AuthorizationPolicy in force.
type Authorization struct {
	Policy
	deny  bool
	audit bool
	rules []model.AuthzRule
}

// ByName orders policies by name.
func ByName(a, b *Authorization) int { return a.age.Name.Compare(b.age.Name) }

// Closed is what stays of a policy that cannot be compiled and never could be:
// an Allow without rules allows nothing, a Deny without rules denies all.
func (c *Authorization) Closed() *Authorization {
	return &Authorization{Policy: c.Policy, deny: c.deny, audit: c.audit}
}

// authzReader reads one object and gathers what is wrong with it.
type authzReader struct {
	origin      report.Origin
	deny        bool
	trustDomain string
	aliases     []string
	findings    []report.Finding
}

func (r *authzReader) refuse(field, format string, args ...any) {
	r.findings = append(r.findings, object.Refused(r.origin, report.Invalid, field, format, args...))
}

// ReadAuthorization reads the object.
func ReadAuthorization(obj *meshv1a1.AuthorizationPolicy, d Defaults) (*Authorization, []report.Finding) {
	r := &authzReader{
		origin:      object.Origin("AuthorizationPolicy", obj),
		deny:        obj.Spec.Action == meshv1a1.Deny,
		trustDomain: d.TrustDomain,
		aliases:     d.Aliases,
	}
	ts, fs := readTargets(r.origin, obj.Spec.TargetRefs, kindNamespace, kindPod, kindService, kindHTTPRoute, kindGRPCRoute, kindGateway)
	r.findings = fs
	c := &Authorization{Policy: policyOf("AuthorizationPolicy", obj), deny: r.deny, audit: obj.Spec.Mode == "Audit"}
	c.targets = ts
	if !r.deny && obj.Spec.Action != meshv1a1.Allow {
		r.refuse("spec.action", "%q is not Allow or Deny", obj.Spec.Action)
	}
	if !c.audit && obj.Spec.Mode != "" && obj.Spec.Mode != "Enforce" {
		r.refuse("spec.mode", "%q is not Enforce or Audit", obj.Spec.Mode)
	}
	if r.deny && len(obj.Spec.Rules) == 0 {
		r.refuse("spec.rules", "a Deny without rules is refused: write a rule with empty braces, - {}, to deny all")
	}
	for i, rule := range obj.Spec.Rules {
		if compiled, can := r.rule(fmt.Sprintf("spec.rules[%d]", i), rule); can {
			c.rules = append(c.rules, compiled)
		}
	}
	return c, r.findings
}

// rule reads a rule; can is false for one that can never match.
func (r *authzReader) rule(field string, rule meshv1a1.AuthorizationRule) (out model.AuthzRule, can bool) {
	if rule.Sources != nil && len(rule.Sources) == 0 {
		r.refuse(field+".sources", "an empty list names no one: leave the field out to mean anyone")
	}
	if rule.To != nil && len(rule.To) == 0 {
		r.refuse(field+".to", "an empty list names nothing: leave the field out to mean anything")
	}
	for i, s := range rule.Sources {
		if source, can := r.source(fmt.Sprintf("%s.sources[%d]", field, i), s); can {
			out.Sources = append(out.Sources, source)
		}
	}
	for i, t := range rule.To {
		out.To = append(out.To, r.to(fmt.Sprintf("%s.to[%d]", field, i), t))
	}
	return out, len(rule.Sources) == 0 || len(out.Sources) > 0
}

// BindAuthz puts the policies that apply on a workload's ports: those that
// select its pods on all, those that target a Service where it leads to. broad
// are those of the namespace that may select the pods, of a Service those that
// target it; both are sorted by name.
func BindAuthz(w *model.Workload, podLabels map[string]string, broad []*Authorization, of func(port uint16) []*Authorization, d Defaults) {
	d.bindDefault(&w.Rest)
	for _, c := range broad {
		if c.targets.level(labels.Set(podLabels)) != none {
			c.bind(&w.Rest.Authz)
		}
	}
	for i := range w.Ports {
		port := &w.Ports[i]
		d.bindDefault(port)
		direct := of(port.Port)
		all := slices.Concat(broad, direct)
		slices.SortFunc(all, ByName)
		for _, c := range slices.Compact(all) {
			if slices.Contains(direct, c) || c.targets.level(labels.Set(podLabels)) != none {
				c.bind(&port.Authz)
			}
		}
	}
}

// bindDefault is MeshConfig's word where no policy applies.
func (d Defaults) bindDefault(port *model.InboundPort) {
	port.Authz.DefaultDeny = d.DefaultDeny
	if d.DefaultDeny {
		port.Origins = withOrigin(port.Origins, d.Origin)
	}
}

func (c *Authorization) bind(a *model.Authz) {
	compiled := model.AuthzPolicy{Name: c.age.Name, Rules: c.rules, Origin: c.Origin}
	list := &a.Allow
	switch {
	case c.deny && c.audit:
		list = &a.AuditDeny
	case c.deny:
		list = &a.Deny
	case c.audit:
		list = &a.AuditAllow
	}
	*list = append(*list, compiled)
}
