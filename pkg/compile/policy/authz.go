package policy

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/compile/object"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// authorization is an AuthorizationPolicy in force.
type authorization struct {
	object  metav1.Object
	origin  report.Origin
	targets targets
	deny    bool
	audit   bool
	rules   []model.AuthzRule
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

func readAuthorization(obj *meshv1a1.AuthorizationPolicy, d Defaults) (authorization, []report.Finding) {
	r := &authzReader{
		origin:      object.Origin("AuthorizationPolicy", obj),
		deny:        obj.Spec.Action == meshv1a1.Deny,
		trustDomain: d.TrustDomain,
		aliases:     d.Aliases,
	}
	ts, fs := readTargets(r.origin, obj.Spec.TargetRefs, kindNamespace, kindPod, kindService, kindHTTPRoute, kindGRPCRoute, kindGateway)
	r.findings = fs
	c := authorization{object: obj, origin: r.origin, targets: ts, deny: r.deny, audit: obj.Spec.Mode == "Audit"}
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

// bindAuthz puts the policies that apply on a workload's ports: those that
// select its pods on all, those that target a Service where it leads to.
func (p *Policies) bindAuthz(w *model.Workload, podLabels labels.Set, inv inventory) {
	p.bindDefault(&w.Rest)
	for _, i := range p.authzAt.of(w.Key.Namespace) {
		if c := p.authz[i]; c.targets.level(podLabels) != none {
			c.bind(&w.Rest.Authz)
		}
	}
	for i := range w.Ports {
		port := &w.Ports[i]
		p.bindDefault(port)
		leading := inv.Leading(w.Key, port.Port)
		for _, i := range p.authzAt.of(w.Key.Namespace, leading...) {
			if c := p.authz[i]; c.targets.level(podLabels) != none || c.targets.names(leading) {
				c.bind(&port.Authz)
			}
		}
	}
}

// bindDefault is MeshConfig's word where no policy applies.
func (p *Policies) bindDefault(port *model.InboundPort) {
	port.Authz.DefaultDeny = p.defaults.DefaultDeny
	if p.defaults.DefaultDeny {
		port.Origins = withOrigin(port.Origins, p.defaults.Origin)
	}
}

func (c authorization) bind(a *model.Authz) {
	compiled := model.AuthzPolicy{Name: object.Name(c.object), Rules: c.rules, Origin: c.origin}
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
