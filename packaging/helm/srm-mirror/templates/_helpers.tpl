{{- define "srm-mirror.name" -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "srm-mirror.selector" -}}
app.kubernetes.io/name: srm-mirror
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "srm-mirror.labels" -}}
{{ include "srm-mirror.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}
