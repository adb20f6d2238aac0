{{/* Labels of a manifest of ours: what every one has, and those that its values add. */}}
{{- define "opsrelay.labels" -}}
app.kubernetes.io/name: opsrelay
app.kubernetes.io/instance: {{ .context.Release.Name }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/managed-by: {{ .context.Release.Service }}
{{- range $name, $value := .labels }}
{{ $name }}: {{ $value | quote }}
{{- end }}
{{- end -}}

{{/*
Manifests for the Prometheus operator and Grafana, each when its value asks for it. The pods are those whose
labels the application gives: call with (dict "context" $ "podLabels" (dict …)).
*/}}
{{- define "opsrelay.monitoring" -}}
{{- include "opsrelay.checks" .context -}}
{{- $v := .context.Values.opsrelay.monitoring -}}
{{- $files := .context.Subcharts.opsrelay.Files -}}
{{- $name := include "opsrelay.configMapName" .context -}}
{{- if $v.podMonitor.enabled }}
---
apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
metadata:
  name: {{ $name }}
  labels:
    {{- include "opsrelay.labels" (dict "context" .context "component" "monitoring" "labels" $v.podMonitor.labels) | nindent 4 }}
spec:
  selector:
    matchLabels:
      {{- toYaml .podLabels | nindent 6 }}
  podMetricsEndpoints:
    - port: opsr-metrics
      interval: {{ $v.podMonitor.interval }}
{{- end }}
{{- if $v.rules.enabled }}
---
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: {{ $name }}
  labels:
    {{- include "opsrelay.labels" (dict "context" .context "component" "monitoring" "labels" $v.rules.labels) | nindent 4 }}
spec:
  {{- $files.Get "monitoring/alerts.yaml" | nindent 2 }}
{{- end }}
{{- if $v.dashboard.enabled }}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ $name }}-dashboard
  labels:
    {{- include "opsrelay.labels" (dict "context" .context "component" "monitoring" "labels" $v.dashboard.labels) | nindent 4 }}
data:
  opsrelay.json: |
    {{- $files.Get "monitoring/dashboard.json" | nindent 4 }}
{{- end }}
{{- end -}}
