package main

import (
	"fmt"
	"strings"

	"github.com/meshd-io/meshd/pkg/report"
)

// maxOutside names are told.
const maxOutside = 5

// outside tells MeshConfig of the pods that its networks do not cover: a pod
// has no conditions of meshd's. Nothing where there is no MeshConfig.
func outside(findings []report.Finding, config report.Origin) []report.Finding {
	var pods []string
	for _, f := range findings {
		if name := f.Object.Namespace + "/" + f.Object.Name; f.Object.Kind == "Pod" && f.Reason == report.OutsideCIDRs &&
			(len(pods) == 0 || pods[len(pods)-1] != name) { // findings are sorted: a pod's addresses stand together
			pods = append(pods, name)
		}
	}
	if len(pods) == 0 || config.Kind == "" {
		return nil
	}
	shown := strings.Join(pods[:min(len(pods), maxOutside)], ", ")
	if len(pods) > maxOutside {
		shown += ", ..."
	}
	return []report.Finding{{
		Object: config.Object, Generation: config.Generation, Condition: report.Accepted, Reason: report.PodsOutsideCIDRs, Field: "spec.cidrs",
		Message: fmt.Sprintf("%d pods have addresses outside of the mesh's networks, and are treated as outside of the mesh: %s; add their networks", len(pods), shown),
	}}
}
