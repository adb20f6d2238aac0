{{/* Name of the ConfigMap that holds the sidecar's configuration. */}}
{{- define "opsrelay.configMapName" -}}
{{- printf "%s-opsrelay" (.Release.Name | trunc 54 | trimSuffix "-") -}}
{{- end -}}

{{/* The configuration file. Sockets and limits that are not named have the daemon's defaults. */}}
{{- define "opsrelay.config" -}}
{{- $v := .Values.opsrelay -}}
upstream:
  url: {{ $v.upstream.url | quote }}
  connections: {{ $v.upstream.connections }}
  timeout: {{ $v.upstream.timeout }}
  allow_plaintext: {{ $v.upstream.allowPlaintext }}
  {{- if $v.apiKey.secretName }}
  api_key_file: {{ printf "/etc/opsrelay-key/%s" $v.apiKey.secretKey | quote }}
  {{- end }}
  {{- if $v.ca.configMapName }}
  ca_file: {{ printf "/etc/opsrelay-ca/%s" $v.ca.configMapKey | quote }}
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
    app.kubernetes.io/name: opsrelay
    app.kubernetes.io/instance: {{ .Release.Name }}
    app.kubernetes.io/component: sidecar
    app.kubernetes.io/managed-by: {{ .Release.Service }}
data:
  opsrelay.yaml: |
    {{- include "opsrelay.config" . | nindent 4 }}
{{- end -}}

{{/* Pod annotation: a new configuration restarts the pod. */}}
{{- define "opsrelay.podAnnotations" -}}
checksum/opsrelay: {{ include "opsrelay.config" . | sha256sum }}
{{- end -}}
