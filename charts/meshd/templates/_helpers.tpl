{{/* Everything is called meshd, whatever the release: there is one in a cluster. */}}

{{- define "meshd.selector" -}}
app.kubernetes.io/name: meshd
app.kubernetes.io/component: control-plane
{{- end }}

{{/* On what is not a pod of the control plane: the selector's component is left out. */}}
{{- define "meshd.labels" -}}
app.kubernetes.io/name: meshd
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* An image's full name. Takes a list: the values' entry, the root. */}}
{{- define "meshd.image" -}}
{{- $image := index . 0 }}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default (index . 1).Chart.AppVersion }}
{{- end }}
{{- end }}

{{/* What the restricted PodSecurity standard asks of a pod, and of a container. */}}
{{- define "meshd.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "meshd.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* What both entries of the webhook share. caBundle is left out: meshd writes it, and rotates it. */}}
{{- define "meshd.webhook" -}}
clientConfig:
  service: {name: meshd, namespace: {{ .Release.Namespace }}, path: /inject, port: 443}
rules:
- {apiGroups: [""], apiVersions: [v1], resources: [pods], operations: [CREATE], scope: Namespaced}
admissionReviewVersions: [v1]
sideEffects: None
timeoutSeconds: 5
failurePolicy: Fail
matchPolicy: Equivalent
reinvocationPolicy: IfNeeded
matchConditions:
- name: no-sidecar-yet
  expression: '!has(object.spec.initContainers) || !object.spec.initContainers.exists(c, c.name == "meshd-proxy")'
# One that asks for the sidecar by its own label is told that it cannot have it.
- name: own-network
  expression: '!has(object.spec.hostNetwork) || !object.spec.hostNetwork || (has(object.metadata.labels) && "meshd.io/inject" in object.metadata.labels && object.metadata.labels["meshd.io/inject"] == "enabled")'
{{- end }}

{{/* The namespaces on which the cluster, and so the mesh, stands. */}}
{{- define "meshd.neverInjected" -}}
- {key: kubernetes.io/metadata.name, operator: NotIn, values: [kube-system, kube-node-lease, kube-public, {{ .Release.Namespace }}]}
{{- end }}

{{/* On what is there only while the definitions are brought up to date. */}}
{{- define "meshd.crdsHook" -}}
helm.sh/hook: pre-upgrade
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}

{{/* The names of meshd's CustomResourceDefinitions. None would mean all: then it fails. */}}
{{- define "meshd.crdNames" -}}
{{- range $path, $_ := required "the chart has no crds/" (.Files.Glob "crds/*.yaml") }}
{{- $parts := base $path | trimSuffix ".yaml" | splitList "_" }}
- {{ last $parts }}.{{ first $parts }}
{{- end }}
{{- end }}

{{/* On what is there only while the mesh is checked; a pod that has failed stays, with its log. */}}
{{- define "meshd.testHook" -}}
helm.sh/hook: test
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}
