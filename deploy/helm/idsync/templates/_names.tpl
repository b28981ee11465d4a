{{- define "idsync.name" -}}
{{- if contains "idsync" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-idsync" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end -}}
{{- end -}}

{{- define "idsync.selector" -}}
app.kubernetes.io/name: idsync
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "idsync.labels" -}}
{{ include "idsync.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "idsync.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}{{ else }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end -}}
{{- end -}}

{{- /* The Secrets that are mounted, each once, as a JSON list. */ -}}
{{- define "idsync.secrets" -}}
{{- $names := list .Values.secrets.adminKey.secretName -}}
{{- with .Values.store.password }}{{- $names = append $names .secretName -}}{{- end -}}
{{- range .Values.secrets.files }}{{- $names = append $names .secretName -}}{{- end -}}
{{- $names | uniq | toJson -}}
{{- end -}}
