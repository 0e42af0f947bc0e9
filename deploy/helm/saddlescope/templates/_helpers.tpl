{{- define "saddlescope.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "saddlescope.labels" -}}
app.kubernetes.io/name: saddlescope
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- end -}}

{{/* Called with (dict "root" $ "component" "api"). */}}
{{- define "saddlescope.selector" -}}
app.kubernetes.io/name: saddlescope
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component | quote }}
{{- end -}}

{{/* Called with (dict "root" $ "image" .Values.images.api). */}}
{{- define "saddlescope.image" -}}
{{ printf "%s:%s" .image.repository (.image.tag | default .root.Chart.AppVersion) | quote }}
{{- end -}}

{{- define "saddlescope.connections" -}}
- name: SADDLESCOPE_DATABASE_URL
  valueFrom: {secretKeyRef: {name: {{ .Values.secret.name | quote }}, key: {{ .Values.secret.databaseUrl | quote }}}}
- name: SADDLESCOPE_BROKER_URL
  valueFrom: {secretKeyRef: {name: {{ .Values.secret.name | quote }}, key: {{ .Values.secret.brokerUrl | quote }}}}
- name: SADDLESCOPE_BLOBS_URL
  value: {{ .Values.blobs.url | quote }}
{{- end -}}

{{- define "saddlescope.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "saddlescope.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}
