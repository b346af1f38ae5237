{{- define "stripedjob.name" -}}
{{- printf "%s-operator" (.Release.Name | trunc 50 | trimSuffix "-") -}}
{{- end -}}

{{- define "stripedjob.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "stripedjob.name" .) -}}
{{- end -}}

{{- define "stripedjob.selector" -}}
app.kubernetes.io/name: stripedjob
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{/* Of everything in the release; the operator's own objects have its selector's labels besides. */}}
{{- define "stripedjob.common" -}}
app.kubernetes.io/name: stripedjob
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "stripedjob.labels" -}}
{{ include "stripedjob.common" . }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "stripedjob.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* What the operator does to StripedJobs and what it makes for them; a test compares this with what it did. */}}
{{- define "stripedjob.rules" -}}
- apiGroups: [striped.dev]
  resources: [stripedjobs]
  verbs: [get, list, watch, patch]
- apiGroups: [striped.dev]
  resources: [stripedjobs/status]
  verbs: [patch]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, patch]
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [create, patch]
- apiGroups: [""]
  resources: [secrets]
  verbs: [get]
- apiGroups: [""]
  resources: [events]
  verbs: [create]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [create, patch]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [create, patch, delete]
{{- end -}}
