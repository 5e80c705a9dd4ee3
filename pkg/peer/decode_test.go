package peer

import (
	"reflect"
	"strings"
	"testing"

	"github.com/meshd-io/meshd/pkg/peer/peerv1"
)

// TestDecodeDemand: what makes no sense is left out, and the rest is taken.
func TestDecodeDemand(t *testing.T) {
	good := func() *peerv1.WorkloadDemand {
		return &peerv1.WorkloadDemand{Namespace: "shop", ServiceAccount: "a", Destinations: []*peerv1.Destination{{Ip: []byte{10, 0, 0, 1}, Port: 80, LastUsed: 1}}}
	}
	want := decodeDemand(&peerv1.DemandResponse{Workloads: []*peerv1.WorkloadDemand{good()}})
	if len(want) != 1 || want[0].Destination.String() != "10.0.0.1:80" || want[0].Last != 1 || want[0].Workload.ServiceAccount != "a" {
		t.Fatalf("%+v", want)
	}
	for name, change := range map[string]func(*peerv1.WorkloadDemand){
		"no namespace":    func(d *peerv1.WorkloadDemand) { d.Namespace = "" },
		"long account":    func(d *peerv1.WorkloadDemand) { d.ServiceAccount = strings.Repeat("a", 254) },
		"too many labels": func(d *peerv1.WorkloadDemand) { d.Labels = strings.Repeat("a", 1<<16) },
		"no address":      func(d *peerv1.WorkloadDemand) { d.Destinations[0].Ip = []byte{1} },
		"port 0":          func(d *peerv1.WorkloadDemand) { d.Destinations[0].Port = 0 },
		"large port":      func(d *peerv1.WorkloadDemand) { d.Destinations[0].Port = 1 << 16 },
		"never":           func(d *peerv1.WorkloadDemand) { d.Destinations[0].LastUsed = -1 },
	} {
		t.Run(name, func(t *testing.T) {
			bad := good()
			change(bad)
			if got := decodeDemand(&peerv1.DemandResponse{Workloads: []*peerv1.WorkloadDemand{bad, nil, good()}}); !reflect.DeepEqual(got, want) {
				t.Errorf("%+v", got)
			}
		})
	}
}
