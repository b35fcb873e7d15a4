{{/* Names and parts that several objects share. */}}

{{- define "isthmus.name" -}}
{{- if contains "isthmus" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-isthmus" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "isthmus.labels" -}}
app.kubernetes.io/name: isthmus
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "isthmus.selector" -}}
app.kubernetes.io/name: isthmus
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "isthmus.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* Of the pod: nobody's user, nothing else. */}}
{{- define "isthmus.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "isthmus.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "isthmus.workloadAPI" -}}
{{- if eq .Values.identity.workloadAPI.mount "csi" -}}
csi: {driver: csi.spiffe.io, readOnly: true}
{{- else -}}
hostPath: {path: {{ .Values.identity.workloadAPI.hostPath }}, type: Directory}
{{- end }}
{{- end }}

{{- define "isthmus.mounts" -}}
- {name: config, mountPath: /etc/isthmus, readOnly: true}
- {name: workload-api, mountPath: /spiffe, readOnly: true}
- {name: data, mountPath: /var/lib/isthmus}
- {name: run, mountPath: /run/isthmus}
- {name: tmp, mountPath: /tmp}
{{- end }}

{{- define "isthmus.volumes" -}}
- name: workload-api
  {{- include "isthmus.workloadAPI" . | nindent 2 }}
- {name: run, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
- {name: tmp, emptyDir: {sizeLimit: 64Mi}}
{{- end }}

{{- define "isthmus.claim" -}}
accessModes: [ReadWriteOnce]
{{- with .className }}
storageClassName: {{ . | quote }}
{{- end }}
resources: {requests: {storage: {{ .size }}}}
{{- end }}

{{/* What both roles' files begin with. */}}
{{- define "isthmus.common" -}}
cluster: {name: {{ .Values.cluster.name | quote }}, cloud: {{ .Values.cluster.cloud | quote }}, region: {{ .Values.cluster.region | quote }}}
data_dir: /var/lib/isthmus
identity:
  trust_domain: {{ .Values.identity.trustDomain | quote }}
  workload_api: unix:///spiffe/{{ .Values.identity.workloadAPI.socket }}
log: {format: json}
{{- end }}

{{/* How a pod reaches its own cluster's API server. */}}
{{- define "isthmus.apiServer" -}}
server: https://kubernetes.default.svc
token_file: /var/run/secrets/kubernetes.io/serviceaccount/token
tls: {ca_file: /var/run/secrets/kubernetes.io/serviceaccount/ca.crt}
{{- end }}

{{/* A binding of a role to the federation's account: dict root, kind, name. */}}
{{- define "isthmus.binding" -}}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: {{ .kind }}, name: {{ .name }}}
subjects:
  - {kind: ServiceAccount, name: {{ printf "%s-federation" (include "isthmus.name" .root) }}, namespace: {{ .root.Release.Namespace }}}
{{- end }}
