package peer

import (
	"reflect"
	"testing"

	"github.com/meshd-io/meshd/pkg/report"
	"github.com/meshd-io/meshd/pkg/status"
)

func TestMerge(t *testing.T) {
	o := report.Object{Kind: "TrafficPolicy", Namespace: "shop", Name: "a"}
	at := func(generation int64, p status.Progress, fs ...report.Finding) Object {
		return Object{Object: o, UID: "u", Generation: generation, Progress: p, Findings: fs}
	}
	knows := func(name string, objects ...Object) State {
		s := State{Name: name, Known: true, objects: map[report.Object]Object{}}
		for _, o := range objects {
			s.objects[o.Object] = o
		}
		return s
	}
	here, there := report.Finding{Object: o, Message: "here"}, report.Finding{Object: o, Message: "there"}
	own := at(3, status.Progress{Total: 2, Acknowledged: 1, Rejected: 1, Laggards: []string{"shop/m"}, Messages: []string{"no"}}, here)
	other := at(3, status.Progress{Total: 3, Acknowledged: 2, Laggards: []string{"shop/a", "shop/z"}, Messages: []string{"no", "never"}}, there, here)
	alone := own.Progress
	sum := status.Progress{Total: 5, Acknowledged: 3, Rejected: 1, Laggards: []string{"shop/a", "shop/m", "shop/z"}, Messages: []string{"no", "never"}}
	waiting := func(p status.Progress, names ...string) status.Progress {
		p.Replicas = names
		return p
	}
	another := other
	another.UID = "v"
	for name, tt := range map[string]struct {
		others   []State
		want     status.Progress
		findings []report.Finding
	}{
		"nobody else":           {nil, alone, []report.Finding{here}},
		"two":                   {[]State{knows("b", other)}, sum, []report.Finding{here, there}},
		"ahead":                 {[]State{knows("b", at(4, other.Progress, there))}, sum, []report.Finding{here, there}},
		"behind":                {[]State{knows("b", at(2, other.Progress, there))}, waiting(alone, "b"), []report.Finding{here}},
		"has not seen it":       {[]State{knows("b")}, waiting(alone, "b"), []report.Finding{here}},
		"another of the name":   {[]State{knows("b", another)}, waiting(alone, "b"), []report.Finding{here}},
		"has not told, and has": {[]State{{Name: "c"}, knows("b", other)}, waiting(sum, "c"), []report.Finding{here, there}},
		"nobody has told":       {[]State{{Name: "c"}, {Name: "b"}}, waiting(alone, "b", "c"), []report.Finding{here}},
	} {
		t.Run(name, func(t *testing.T) {
			p, fs := Merge(own, tt.others)
			if !reflect.DeepEqual(p, tt.want) || !reflect.DeepEqual(fs, tt.findings) {
				t.Errorf("got %+v, %v\nwant %+v, %v", p, fs, tt.want, tt.findings)
			}
		})
	}
}
