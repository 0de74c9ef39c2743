{{/* The name of what the release makes in its namespace. */}}
{{- define "storagemirror.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" (.Release.Name | trunc 38 | trimSuffix "-") .Chart.Name -}}
{{- end -}}
{{- end -}}

{{- define "storagemirror.selectorLabels" -}}
app.kubernetes.io/name: storagemirror
app.kubernetes.io/component: operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "storagemirror.labels" -}}
{{ include "storagemirror.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{/* Of the Job that runs before an uninstall: not those by which the Deployment knows its pods. */}}
{{- define "storagemirror.releaseLabels" -}}
{{ include "storagemirror.labels" . | replace "component: operator" "component: release" }}
{{- end -}}

{{- define "storagemirror.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "storagemirror.fullname" .) -}}
{{- end -}}

{{/* Who makes the gate's trial: a service account that the gate does not let pass. */}}
{{- define "storagemirror.probe" -}}
storagemirror-probe
{{- end -}}

{{/* The name of the gate: the operator counts only a refusal that names it. */}}
{{- define "storagemirror.gate" -}}
storagemirror-gate
{{- end -}}

{{/* The image of the operator and of its agents. */}}
{{- define "storagemirror.image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion -}}
{{- if .Values.image.digest -}}
{{- printf "%s:%s@%s" .Values.image.repository $tag .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository $tag -}}
{{- end -}}
{{- end -}}

{{/* Egress to the API server (which no selector can name) and to DNS. */}}
{{- define "storagemirror.egress" -}}
- ports:
    {{- range .Values.networkPolicy.apiServerPorts }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
- ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
{{- end -}}

{{/* What the operator's pods and the Job's have in common. */}}
{{- define "storagemirror.podSettings" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
