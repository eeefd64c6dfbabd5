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

{{/* The nodes, each by the name that the service of the nodes gives its pod: the same order on all. */}}
{{- define "srm-mirror.nodes" -}}
{{- $name := include "srm-mirror.name" . -}}
{{- range $number := until (int .Values.fleet.nodes) -}}
{{- if $number }},{{ end -}}
{{ $name }}-{{ $number }}=https://{{ $name }}-{{ $number }}.{{ $name }}-nodes:8470
{{- end -}}
{{- end -}}
