package status

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshd-io/meshd/pkg/report"
)

// Progress is how far the live proxies are that an object concerns.
type Progress struct {
	Total, Acknowledged, Rejected int
	// Laggards are the first proxies that have not acknowledged, by name.
	Laggards []string
	// Messages are Envoy's own words for what was rejected.
	Messages []string
	// Replicas of meshd that have not told yet how far their proxies are with
	// this generation, by name. It is not programmed before they have.
	Replicas []string
}

// maxMessage bounds a condition's message (the API server's limit is 32768).
const maxMessage = 2048

// conditions gives Accepted, ResolvedRefs and Programmed of one object.
func conditions(in Object, p Progress, now metav1.Time) []metav1.Condition {
	accepted := judge(in.Findings, report.Accepted)
	resolved := judge(in.Findings, report.ResolvedRefs)
	programmed := programmed(accepted, p)
	out := []metav1.Condition{accepted, resolved, programmed}
	for i := range out {
		out[i].ObservedGeneration = in.Generation
		out[i].LastTransitionTime = transition(in.Previous, out[i], now)
	}
	return out
}

// judge folds the findings of one condition into it: false with the first
// finding's reason, or true with what should be said all the same.
func judge(findings []report.Finding, condition report.Condition) metav1.Condition {
	out := metav1.Condition{Type: string(condition), Status: metav1.ConditionTrue, Reason: string(condition)}
	var against, beside []report.Finding
	for _, f := range findings {
		switch {
		case f.Condition != condition:
		case f.Reason.Informs():
			beside = append(beside, f)
		default:
			against = append(against, f)
		}
	}
	switch {
	case len(against) > 0:
		out.Status, out.Reason, out.Message = metav1.ConditionFalse, string(against[0].Reason), messages(against)
	case len(beside) > 0:
		out.Reason, out.Message = string(beside[0].Reason), messages(beside)
	}
	return out
}

func programmed(accepted metav1.Condition, p Progress) metav1.Condition {
	out := metav1.Condition{Type: string(report.Programmed), Status: metav1.ConditionFalse}
	switch {
	case accepted.Status == metav1.ConditionFalse:
		out.Reason, out.Message = accepted.Reason, "the object is not accepted; its last good version, if there was one, stays in force"
	case p.Rejected > 0:
		out.Reason, out.Message = string(report.Rejected), strings.Join(p.Messages, "; ")
	case p.Acknowledged < p.Total:
		out.Reason = string(report.Pending)
		out.Message = fmt.Sprintf("%d of %d proxies have acknowledged; waiting for %s", p.Acknowledged, p.Total, strings.Join(laggards(p), ", "))
	case len(p.Replicas) > 0:
		out.Reason = string(report.Pending)
		out.Message = "waiting for what meshd's replica " + strings.Join(p.Replicas, ", ") + " knows of its proxies"
	default:
		out.Status, out.Reason = metav1.ConditionTrue, string(report.Programmed)
		if p.Total == 0 {
			out.Message = "no connected proxy is concerned"
		}
	}
	out.Message = cut(out.Message)
	return out
}

func messages(findings []report.Finding) string {
	parts := make([]string, 0, len(findings))
	for _, f := range findings {
		text := f.Message
		if f.Field != "" {
			text = f.Field + ": " + text
		}
		if !slices.Contains(parts, text) {
			parts = append(parts, text)
		}
	}
	return cut(strings.Join(parts, "; "))
}

func cut(s string) string { return cutTo(s, maxMessage) }

func cutTo(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + " ..."
}

// transition keeps the time of the former condition while its status stays the same.
func transition(previous []metav1.Condition, c metav1.Condition, now metav1.Time) metav1.Time {
	for _, p := range previous {
		if p.Type == c.Type && p.Status == c.Status && !p.LastTransitionTime.IsZero() {
			return p.LastTransitionTime
		}
	}
	return now
}
