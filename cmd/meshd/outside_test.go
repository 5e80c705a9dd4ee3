package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/meshd-io/meshd/pkg/report"
)

func TestPodsOutsideAreToldToMeshConfig(t *testing.T) {
	config := report.Origin{Object: report.Object{Kind: "MeshConfig", Name: "default"}, Generation: 2}
	var found []report.Finding
	for i := range 7 {
		f := report.Finding{Object: report.Object{Kind: "Pod", Namespace: "shop", Name: fmt.Sprint("p", i)}, Reason: report.OutsideCIDRs, Message: "v4"}
		other := f
		other.Message = "v6"
		found = append(found, f, other, report.Finding{Object: report.Object{Kind: "Service", Name: "s"}, Reason: report.OutsideCIDRs})
	}
	got := outside(report.Sort(found), config)
	if len(got) != 1 || got[0].Object != config.Object || got[0].Generation != 2 || !got[0].Reason.Informs() ||
		!strings.Contains(got[0].Message, "7 pods") || !strings.Contains(got[0].Message, "shop/p0, shop/p1, shop/p2, shop/p3, shop/p4, ...") {
		t.Errorf("%+v", got)
	}
	if got := outside(found, report.Origin{}); got != nil {
		t.Errorf("without a MeshConfig: %+v", got)
	}
	if got := outside(nil, config); got != nil {
		t.Errorf("without such pods: %+v", got)
	}
}
