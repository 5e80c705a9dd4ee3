package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// meshFiles is a folder of a mesh: services with two pods and a policy each,
// and clients that are pods of one workload.
type meshFiles struct {
	dir               string
	services, clients int
}

func (m meshFiles) write() error {
	if err := os.MkdirAll(m.dir, 0o755); err != nil {
		return err
	}
	var pods strings.Builder
	for i := range m.clients {
		fmt.Fprintf(&pods, podYAML, clientName(i), clientAccount, clientAccount, clientAccount, fmt.Sprintf("10.244.%d.%d", 200+i/250, i%250+1))
	}
	err := m.put("clients.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n"+pods.String())
	for i := 0; i < m.services && err == nil; i++ {
		name := serviceName(i)
		text := fmt.Sprintf(serviceYAML, name, serviceAddress(i), name, name, name)
		for j := range 2 {
			text += fmt.Sprintf(podYAML, fmt.Sprintf("%s-%d", name, j), name, name, name, endpointAddress(i, j))
		}
		if err = m.put(name+".yaml", text); err == nil {
			err = m.endpoints(i, 1)
		}
	}
	return err
}

// endpoints writes a service's slice with so many of its pods.
func (m meshFiles) endpoints(service, count int) error {
	name := serviceName(service)
	text := fmt.Sprintf(sliceYAML, name, name)
	for j := range count {
		text += fmt.Sprintf("- {addresses: [%s], conditions: {ready: true}}\n", endpointAddress(service, j))
	}
	return m.put(name+"-slice.yaml", text)
}

// mark writes the first service's slice with an endpoint whose address is the number of the change.
func (m meshFiles) mark(change int) error {
	name := serviceName(0)
	text := fmt.Sprintf(sliceYAML, name, name)
	for _, address := range []string{endpointAddress(0, 0), markerAddress(change)} {
		text += fmt.Sprintf("- {addresses: [%s], conditions: {ready: true}}\n", address)
	}
	return m.put(name+"-slice.yaml", text)
}

// annotate changes the first service's slice in a way that no proxy need know of.
func (m meshFiles) annotate(change int) error {
	name := serviceName(0) + "-slice.yaml"
	raw, err := os.ReadFile(filepath.Join(m.dir, name))
	if err != nil {
		return err
	}
	return m.put(name, strings.Replace(string(raw), "namespace: shop,", fmt.Sprintf(`namespace: shop, annotations: {n: "%d"},`, change), 1))
}

// put replaces a file whole.
func (m meshFiles) put(name, text string) error {
	path := filepath.Join(m.dir, name)
	if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil { // nothing secret
		return err
	}
	return os.Rename(path+".new", path)
}

const clientAccount = "client"

func clientName(i int) string  { return fmt.Sprintf("client-%d", i) }
func clientUID(i int) string   { return "uid-" + clientName(i) }
func serviceName(i int) string { return fmt.Sprintf("app-%04d", i) }

func serviceAddress(i int) string { return fmt.Sprintf("10.96.%d.%d", i/250, i%250+1) }

func endpointAddress(i, j int) string { return fmt.Sprintf("10.244.%d.%d", j*100+i/250, i%250+1) }

const podYAML = `---
apiVersion: v1
kind: Pod
metadata: {name: %[1]s, namespace: shop, uid: uid-%[1]s, labels: {app: %[2]s}}
spec:
  serviceAccountName: %[3]s
  initContainers: [{name: meshd-proxy, image: envoy, restartPolicy: Always}]
  containers: [{name: %[4]s, image: app, ports: [{name: http, containerPort: 8080}]}]
status: {phase: Running, podIP: %[5]s, podIPs: [{ip: %[5]s}]}
`

const serviceYAML = `apiVersion: v1
kind: Service
metadata: {name: %[1]s, namespace: shop}
spec:
  clusterIP: %[2]s
  clusterIPs: [%[2]s]
  selector: {app: %[3]s}
  ports: [{name: http, port: 80, targetPort: http}]
---
apiVersion: meshd.io/v1alpha1
kind: TrafficPolicy
metadata: {name: %[4]s, namespace: shop}
spec:
  targetRefs: [{kind: Service, name: %[5]s}]
  timeout: {request: 5s}
`

const sliceYAML = `apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %[1]s-1, namespace: shop, labels: {kubernetes.io/service-name: %[2]s}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints:
`
