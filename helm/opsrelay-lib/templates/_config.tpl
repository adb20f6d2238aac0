{{/* Name of the ConfigMap that holds the sidecar's configuration. */}}
{{- define "opsrelay.configMapName" -}}
{{- printf "%s-opsrelay" (.Release.Name | trunc 54 | trimSuffix "-") -}}
{{- end -}}

{{/*
The lanes besides the default one, by name, as a YAML map: what a lane does not say about its upstream is as in
`upstream`; key, CA and client certificate are its own or none. Call with the values of opsrelay.
*/}}
{{- define "opsrelay.lanes" -}}
{{- $defaults := omit .upstream "url" -}}
{{- $all := dict -}}
{{- range $name, $lane := .lanes -}}
{{- $files := dict "apiKey" (dict "secretName" "" "secretKey" "api-key") "ca" (dict "configMapName" "" "configMapKey" "ca.crt") "clientCert" (dict "secretName" "" "certKey" "tls.crt" "keyKey" "tls.key") -}}
{{- $_ := set $all $name (mergeOverwrite (dict "upstream" (deepCopy $defaults)) $files (deepCopy $lane)) -}}
{{- end -}}
{{- toYaml $all -}}
{{- end -}}

{{/* The settings of one lane. Call with (dict "lane" … "suffix" "-NAME"), which its volumes have too. */}}
{{- define "opsrelay.lane" -}}
{{- $up := .lane.upstream -}}
kind: {{ $up.kind }}
url: {{ $up.url | quote }}
{{- if $up.path }}
path: {{ $up.path | quote }}
{{- end }}
connections: {{ $up.connections }}
pipeline: {{ $up.pipeline }}
concurrency: {{ $up.concurrency }}
batch_compression: {{ $up.batchCompression }}
timeout: {{ $up.timeout }}
allow_plaintext: {{ $up.allowPlaintext }}
{{- if $up.proxy }}
proxy: {{ $up.proxy | quote }}
{{- end }}
{{- if .lane.apiKey.secretName }}
api_key_file: {{ printf "/etc/opsrelay-key%s/%s" .suffix .lane.apiKey.secretKey | quote }}
{{- end }}
{{- if .lane.ca.configMapName }}
ca_file: {{ printf "/etc/opsrelay-ca%s/%s" .suffix .lane.ca.configMapKey | quote }}
{{- end }}
{{- if .lane.clientCert.secretName }}
client_cert_file: {{ printf "/etc/opsrelay-cert%s/%s" .suffix .lane.clientCert.certKey | quote }}
client_key_file: {{ printf "/etc/opsrelay-cert%s/%s" .suffix .lane.clientCert.keyKey | quote }}
{{- end }}
{{- end -}}

{{/* The configuration file. Sockets and limits that are not named have the daemon's defaults. */}}
{{- define "opsrelay.config" -}}
{{- $v := .Values.opsrelay -}}
upstream:
  {{- include "opsrelay.lane" (dict "lane" $v "suffix" "") | nindent 2 }}
{{- with include "opsrelay.lanes" $v | fromYaml }}
lanes:
  {{- range $name, $lane := . }}
  {{ $name }}:
    {{- include "opsrelay.lane" (dict "lane" $lane "suffix" (printf "-%s" $name)) | nindent 4 }}
  {{- end }}
{{- end }}
{{- with $v.listeners }}
listeners:
  {{- range . }}
  - {{ toJson . }}
  {{- end }}
{{- end }}
run_dir: /run/opsrelay
spool:
  dir: /var/lib/opsrelay
  max_bytes: {{ $v.spool.maxBytes }}
  ephemeral: {{ not $v.spool.claimName }}
dedupe:
  window: {{ $v.dedupe.window }}
  max_ids: {{ $v.dedupe.maxIds | int64 }}
events:
  missing_id: {{ $v.events.missingId }}
  stamp_created_at: {{ $v.events.stampCreatedAt }}
privacy:
  {{- with $v.privacy.denyFields }}
  deny_fields: {{ toJson . }}
  {{- end }}
  user_id: {{ $v.privacy.userId }}
  tenant_id: {{ $v.privacy.tenantId }}
  {{- if $v.privacy.hashKey.secretName }}
  hash_key_file: {{ printf "/etc/opsrelay-hash-key/%s" $v.privacy.hashKey.secretKey | quote }}
  {{- end }}
memory:
  max_bytes: {{ $v.memory.maxBytes }}
  stall_buffer: {{ $v.memory.stallBuffer }}
shutdown:
  deadline: {{ $v.shutdown.deadline }}
admin:
  # In the spool's volume, which the application does not mount.
  socket: /var/lib/opsrelay/admin.sock
{{- if $v.metrics.enabled }}
metrics:
  address: {{ if contains ":" $v.metrics.address }}{{ printf "[%s]:%d" $v.metrics.address ($v.metrics.port | int64) | quote }}{{ else }}{{ printf "%s:%d" $v.metrics.address ($v.metrics.port | int64) | quote }}{{ end }}
{{- end }}
log:
  format: json
  level: {{ $v.log.level }}
{{- end -}}

{{/* A manifest of its own: the application's chart includes it in a file of templates/. */}}
{{- define "opsrelay.configMap" -}}
{{- include "opsrelay.checks" . -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "opsrelay.configMapName" . }}
  labels:
    {{- include "opsrelay.labels" (dict "context" . "component" "sidecar" "labels" dict) | nindent 4 }}
data:
  opsrelay.yaml: |
    {{- include "opsrelay.config" . | nindent 4 }}
{{- end -}}

{{/* Pod annotation: a new configuration restarts the pod. */}}
{{- define "opsrelay.podAnnotations" -}}
checksum/opsrelay: {{ include "opsrelay.config" . | sha256sum }}
{{- end -}}
