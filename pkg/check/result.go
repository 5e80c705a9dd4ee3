package check

import (
	"fmt"
	"slices"
	"strings"
)

// Level is what a check has found.
type Level string

// The levels.
const (
	OK   Level = "OK"
	Warn Level = "WARN" // the mesh works, but will not for ever, or not everything is known
	Fail Level = "FAIL" // something does not work
)

// Result is what one check has found.
type Result struct {
	// Check is its name, one word that never changes.
	Check string `json:"check"`
	Level Level  `json:"level"`
	// Message says in one sentence what was found.
	Message string `json:"message"`
	// Cure says what to do about it; "" with OK.
	Cure string `json:"cure,omitempty"`
	// Details are everything that the message sums up, sorted.
	Details []string `json:"details,omitempty"`
}

// Healthy reports whether all is well.
func Healthy(results []Result) bool {
	return !slices.ContainsFunc(results, func(r Result) bool { return r.Level != OK })
}

// Run judges the facts: one result for each check that applies to them, always in the same order.
func Run(f Facts) []Result {
	var out []Result
	for _, c := range checks() {
		if f.Cluster == nil && !c.anywhere {
			continue
		}
		out = append(out, c.judge(&f))
	}
	return out
}

// rule is one check.
type rule struct {
	name string
	// anywhere: it also applies to a meshd that serves from files.
	anywhere bool
	// needs are the readings without which it cannot tell.
	needs []Reading
	run   func(*Facts) verdict
}

// checks, from what everything stands on to what stands on it.
func checks() []rule {
	return []rule{
		{"definitions", false, []Reading{Definitions}, definitions},
		{"deployment", false, []Reading{Deployments}, deployment},
		{"replicas", true, []Reading{States}, replicas},
		{"versions", true, []Reading{States, Pods}, versions},
		{"webhook", false, []Reading{Webhooks, Endpoints}, webhook},
		{"injection", false, []Reading{Webhooks, Policies}, injection},
		{"authority", true, []Reading{States, Anchor}, authority},
		{"networks", false, []Reading{Networks, Policies, Pods}, networks},
		{"labels", false, []Reading{Namespaces, Pods}, labels},
		{"sidecars", false, []Reading{Namespaces, Pods, Policies}, sidecars},
		{"proxies", true, []Reading{States, Pods}, proxies},
		{"certificates", true, []Reading{States}, certificates},
		{"objects", true, []Reading{Policies}, objects},
	}
}

func (c rule) judge(f *Facts) Result {
	if f.Cluster != nil {
		for _, need := range c.needs {
			if why, unread := f.Cluster.Unread[need]; unread {
				return Result{
					Check: c.name, Level: Warn, Message: fmt.Sprintf("not known: %s cannot be read: %s", need, why),
					Cure: "ask with the role meshd-check, which the chart makes",
				}
			}
		}
	}
	v := c.run(f)
	r := Result{Check: c.name, Level: OK, Message: v.well}
	var parts, cures []string
	for _, fault := range v.faults {
		if fault.level == Fail || r.Level == OK {
			r.Level = fault.level
		}
		parts = append(parts, fault.message())
		r.Details = append(r.Details, fault.details...)
		if !slices.Contains(cures, fault.cure) {
			cures = append(cures, fault.cure)
		}
	}
	if len(parts) > 0 {
		r.Message, r.Cure = strings.Join(parts, "; "), strings.Join(cures, "; ")
	}
	return r
}

// verdict is what a check found: faults, or what to say when there are none.
type verdict struct {
	well   string
	faults []fault
}

// fault is one thing that is wrong, at one or many places.
type fault struct {
	level   Level
	what    string
	cure    string
	details []string
}

// shown is how many details a message names.
const shown = 3

func (f fault) message() string {
	if len(f.details) == 0 {
		return f.what
	}
	some := strings.Join(f.details[:min(shown, len(f.details))], ", ")
	if more := len(f.details) - shown; more > 0 {
		some += fmt.Sprintf(" and %d more", more)
	}
	return f.what + ": " + some
}

// add notes a fault.
func (v *verdict) add(level Level, cure, format string, args ...any) {
	v.faults = append(v.faults, fault{level: level, what: fmt.Sprintf(format, args...), cure: cure})
}

// addEach notes one fault for all of its places, if there are any.
func (v *verdict) addEach(level Level, what, cure string, places []string) {
	if len(places) > 0 {
		slices.Sort(places)
		v.faults = append(v.faults, fault{level: level, what: what, cure: cure, details: slices.Compact(places)})
	}
}
