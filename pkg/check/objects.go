package check

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshd-io/meshd/pkg/report"
)

// objects: every object is accepted, resolved and programmed, and nothing else
// is to be said against one.
func objects(f *Facts) verdict {
	v := verdict{well: fmt.Sprintf("%d have nothing against them", len(f.Objects))}
	var unseen, refused, unresolved, rejected, pending, partial, other []string
	told := map[report.Object]bool{}
	for _, o := range f.Objects {
		told[o.Object] = true
		if len(o.Conditions) == 0 || o.Observed < o.Generation {
			unseen = append(unseen, o.String())
			continue
		}
		for _, c := range o.Conditions {
			text := fmt.Sprintf("%s (%s: %s)", o, c.Reason, c.Message)
			if c.Type == string(report.PartiallyInvalid) && c.Status == metav1.ConditionTrue {
				partial = append(partial, text)
			}
			if c.Status != metav1.ConditionFalse {
				continue
			}
			switch report.Condition(c.Type) {
			case report.Accepted:
				refused = append(refused, text)
			case report.ResolvedRefs:
				unresolved = append(unresolved, text)
			case report.Programmed:
				switch {
				case c.Reason == string(report.Rejected):
					rejected = append(rejected, text)
				case c.Reason == string(report.Pending):
					pending = append(pending, text)
				}
			}
		}
	}
	for _, r := range f.Replicas {
		for _, finding := range r.State.Findings {
			if !told[finding.Object] && !finding.Reason.Informs() {
				other = append(other, fmt.Sprintf("%s (%s: %s)", finding.Object, finding.Reason, finding.Message))
			}
		}
	}
	const cure = "the message says what to change; kubectl describe shows all conditions"
	v.addEach(Fail, "not accepted", cure, refused)
	v.addEach(Fail, "references that lead nowhere", cure, unresolved)
	v.addEach(Fail, "refused by a proxy; the last good version stays in force", cure, rejected)
	v.addEach(Warn, "only in part in force", cure, partial)
	v.addEach(Warn, "not acknowledged by every proxy yet", "wait a moment; if it stays so, see the proxies that are named", pending)
	v.addEach(Warn, "meshd has not spoken of the newest generation", "wait a moment; if it stays so, see the log of meshd's leader", unseen)
	v.addEach(Warn, "findings", cure, other)
	return v
}
