{{/* The sidecar: the first item of spec.initContainers, so that other init containers may emit too. */}}
{{- define "opsrelay.initContainer" -}}
{{- include "opsrelay.checks" . -}}
{{- $v := .Values.opsrelay -}}
{{- $tag := $v.image.tag | default "0.1.0" -}}
- name: opsrelay
  image: {{ if $v.image.digest }}{{ printf "%s@%s" $v.image.repository $v.image.digest | quote }}{{ else }}{{ printf "%s:%s" $v.image.repository $tag | quote }}{{ end }}
  imagePullPolicy: {{ $v.image.pullPolicy }}
  restartPolicy: Always
  command: [/usr/bin/opsrelay]
  args: [run, --config, /etc/opsrelay/opsrelay.yaml]
  # The next containers start once events are accepted. There is no readiness probe: the state of
  # the upstream must not make the pod unready.
  startupProbe:
    exec:
      command: [/usr/bin/opsrelay, status, --ready]
    periodSeconds: 1
    timeoutSeconds: 5
    failureThreshold: 60
  livenessProbe:
    exec:
      command: [/usr/bin/opsrelay, status, --live]
    periodSeconds: 30
    timeoutSeconds: 5
    failureThreshold: 3
  {{- if $v.metrics.enabled }}
  ports:
    - name: opsr-metrics
      containerPort: {{ $v.metrics.port }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities:
      drop: [ALL]
    seccompProfile:
      type: RuntimeDefault
  resources:
    {{- toYaml $v.resources | nindent 4 }}
  terminationMessagePolicy: FallbackToLogsOnError
  volumeMounts:
    - name: opsrelay-run
      mountPath: /run/opsrelay
    - name: opsrelay-spool
      mountPath: /var/lib/opsrelay
    - name: opsrelay-config
      mountPath: /etc/opsrelay
      readOnly: true
    {{- if $v.privacy.hashKey.secretName }}
    - name: opsrelay-hash-key
      mountPath: /etc/opsrelay-hash-key
      readOnly: true
    {{- end }}
    {{- with include "opsrelay.laneMounts" (dict "lane" $v "suffix" "") | trim }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- range $name, $lane := include "opsrelay.lanes" $v | fromYaml }}
    {{- with include "opsrelay.laneMounts" (dict "lane" $lane "suffix" (printf "-%s" $name)) | trim }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- end }}
{{- end -}}

{{/* Where the files of one lane are mounted, and their volumes below; parameters as for opsrelay.lane. */}}
{{- define "opsrelay.laneMounts" -}}
{{- if .lane.apiKey.secretName }}
- name: opsrelay-key{{ .suffix }}
  mountPath: /etc/opsrelay-key{{ .suffix }}
  readOnly: true
{{- end }}
{{- if .lane.ca.configMapName }}
- name: opsrelay-ca{{ .suffix }}
  mountPath: /etc/opsrelay-ca{{ .suffix }}
  readOnly: true
{{- end }}
{{- if .lane.clientCert.secretName }}
- name: opsrelay-cert{{ .suffix }}
  mountPath: /etc/opsrelay-cert{{ .suffix }}
  readOnly: true
{{- end }}
{{- end -}}

{{- define "opsrelay.laneVolumes" -}}
{{- if .lane.apiKey.secretName }}
- name: opsrelay-key{{ .suffix }}
  secret:
    secretName: {{ .lane.apiKey.secretName }}
    optional: true
    # The volume belongs to root: without a fsGroup only "others" covers the sidecar's user.
    defaultMode: {{ .mode }}
    items:
      - key: {{ .lane.apiKey.secretKey }}
        path: {{ .lane.apiKey.secretKey }}
{{- end }}
{{- if .lane.ca.configMapName }}
- name: opsrelay-ca{{ .suffix }}
  configMap:
    name: {{ .lane.ca.configMapName }}
{{- end }}
{{- if .lane.clientCert.secretName }}
- name: opsrelay-cert{{ .suffix }}
  secret:
    secretName: {{ .lane.clientCert.secretName }}
    defaultMode: {{ .mode }}
    items:
      - key: {{ .lane.clientCert.certKey }}
        path: {{ .lane.clientCert.certKey }}
      - key: {{ .lane.clientCert.keyKey }}
        path: {{ .lane.clientCert.keyKey }}
{{- end }}
{{- end -}}

{{/* Items of spec.volumes. */}}
{{- define "opsrelay.volumes" -}}
{{- $v := .Values.opsrelay -}}
{{- $mode := ternary "0440" "0444" $v.podHasFsGroup -}}
- name: opsrelay-run
  emptyDir:
    medium: Memory
    sizeLimit: 1Mi
- name: opsrelay-spool
  {{- if $v.spool.claimName }}
  persistentVolumeClaim:
    claimName: {{ $v.spool.claimName }}
  {{- else }}
  emptyDir:
    sizeLimit: {{ $v.spool.sizeLimit }}
  {{- end }}
- name: opsrelay-config
  configMap:
    name: {{ include "opsrelay.configMapName" . }}
{{- if $v.privacy.hashKey.secretName }}
- name: opsrelay-hash-key
  secret:
    secretName: {{ $v.privacy.hashKey.secretName }}
    defaultMode: {{ $mode }}
    items:
      - key: {{ $v.privacy.hashKey.secretKey }}
        path: {{ $v.privacy.hashKey.secretKey }}
{{- end }}
{{- include "opsrelay.laneVolumes" (dict "lane" $v "suffix" "" "mode" $mode) }}
{{- range $name, $lane := include "opsrelay.lanes" $v | fromYaml }}
{{- include "opsrelay.laneVolumes" (dict "lane" $lane "suffix" (printf "-%s" $name) "mode" $mode) }}
{{- end }}
{{- end -}}

{{/* Items of volumeMounts of a container that emits: the sockets, never the spool. */}}
{{- define "opsrelay.appVolumeMounts" -}}
- name: opsrelay-run
  mountPath: /run/opsrelay
{{- end -}}

{{/* Items of env of a container that emits: where the SDKs send, and where the sockets are. */}}
{{- define "opsrelay.appEnv" -}}
- name: OPSMETER_API_BASE_URL
  value: http://127.0.0.1:8710
- name: OPSRELAY_RUN_DIR
  value: /run/opsrelay
{{- end -}}

{{/*
spec.terminationGracePeriodSeconds: the application's own seconds, then the relay's to deliver, then
5 to commit. Call with (dict "context" $ "seconds" 30).
*/}}
{{- define "opsrelay.terminationGracePeriodSeconds" -}}
{{- $deadline := trimSuffix "s" .context.Values.opsrelay.shutdown.deadline | int64 -}}
{{- add (.seconds | int64) $deadline 5 -}}
{{- end -}}
