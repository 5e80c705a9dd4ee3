package integration

// commonPods are in the mesh, in namespace features: a client, and a server of
// everything. Their like in namespace outside are in no mesh.
const commonPods = `
apiVersion: v1
kind: Namespace
metadata: {name: features, labels: {meshd.io/inject: enabled}}
---
apiVersion: v1
kind: Namespace
metadata: {name: outside}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: client, namespace: features}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: server, namespace: features}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: client, namespace: features}
spec:
  selector: {matchLabels: {app: client}}
  template:
    metadata: {labels: {app: client}}
    spec:
      serviceAccountName: client
      containers: [{name: client, image: app, command: [app, serve, "http:7000"], ports: [{containerPort: 7000}]}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: server, namespace: features}
spec:
  selector: {matchLabels: {app: server}}
  template:
    metadata: {labels: {app: server}}
    spec:
      serviceAccountName: server
      containers:
      - name: server
        image: app
        command: [app, serve, "http:8080", "http:8081", "http:8082", "echo:9001", "banner:9002", "banner:9012", "count:9003", "talker:9005", "grpc:9004", "grpc:9014", "https:8443", "https:8444"]
        readinessProbe: {httpGet: {path: /ready, port: 8080}, periodSeconds: 1}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: client, namespace: outside}
spec:
  selector: {matchLabels: {app: client}}
  template:
    metadata: {labels: {app: client}}
    spec:
      containers: [{name: client, image: app, command: [app, serve, "http:8080", "banner:9002"], readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}}]
---
apiVersion: v1
kind: Service
metadata: {name: outsider, namespace: outside}
spec: {selector: {app: client}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: server, namespace: features}
spec:
  selector: {app: server}
  ipFamilyPolicy: PreferDualStack
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: http2, port: 8081}
  - {name: web, port: 8082}
  - {name: tcp, port: 9001}
  - {name: tcp-banner, port: 9002}
  - {name: greeting, port: 9012}
  - {name: tcp-count, port: 9003}
  - {name: tcp-talker, port: 9005}
  - {name: grpc, port: 9004}
  - {name: calls, port: 9014}
  - {name: https, port: 8443}
  - {name: secure, port: 8444}
`
