package cluster

import (
	"strings"
	"testing"
)

// A Job whose pods have a sidecar completes; its init container has network, through the mesh.
func TestJobCompletes(t *testing.T) {
	targeted(t)
	apply(t, `
apiVersion: batch/v1
kind: Job
metadata: {name: once, namespace: steady}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      initContainers:
      - name: before
        image: ghcr.io/meshd-io/eazybank:0.5.0
        command: [eazybank, get, "http://target:8080/target"]
      containers:
      - name: work
        image: ghcr.io/meshd-io/eazybank:0.5.0
        command: [eazybank, load, "http://target:8080/target", --for, 2s]
`)
	kubectl(t, "wait", "-n", "steady", "--for=condition=Complete", "job/once", "--timeout="+patience.String())
	if out := kubectl(t, "logs", "-n", "steady", "job/once", "-c", "before"); !strings.HasPrefix(out, "200 ") {
		t.Errorf("the init container got %s", out)
	}
	if out := kubectl(t, "logs", "-n", "steady", "job/once", "-c", "work"); !strings.Contains(out, `"failed":0`) {
		t.Errorf("the job got %s", out)
	}
	if out := kubectl(t, "get", "pod", "-n", "steady", "-l", "job-name=once", "-o", "jsonpath={.items[*].spec.initContainers[*].name}"); !strings.Contains(out, "meshd-proxy") {
		t.Errorf("the job's pod had no sidecar: %s", out)
	}
}
