{{/* Rules between values, and with the cluster. Included by every template that renders something. */}}
{{- define "opsrelay.checks" -}}
{{- $v := .Values.opsrelay -}}
{{- if semverCompare "<1.29.0-0" .Capabilities.KubeVersion.Version -}}
  {{- fail (printf "opsrelay: Kubernetes %s has no native sidecars; 1.29 is the first that has" .Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- if not $v.image.repository -}}
  {{- fail "opsrelay.image.repository: is empty; name the image that holds opsrelay" -}}
{{- end -}}
{{- $hashes := or (eq $v.privacy.userId "hash") (eq $v.privacy.tenantId "hash") -}}
{{- if and $hashes (not $v.privacy.hashKey.secretName) -}}
  {{- fail "opsrelay.privacy.hashKey.secretName: is empty; userId or tenantId: hash needs a key" -}}
{{- end -}}
{{- range $name, $lane := $v.lanes -}}
  {{- if eq $name "default" -}}
    {{- fail "opsrelay.lanes.default: the default lane is opsrelay.upstream; name the others here" -}}
  {{- end -}}
  {{- if not (hasKey $lane.upstream "url") -}}
    {{- fail (printf "opsrelay.lanes.%s.upstream.url: is missing; a lane needs one of its own" $name) -}}
  {{- end -}}
{{- end -}}
{{- range $i, $listener := $v.listeners -}}
  {{- $lane := $listener.lane | default "default" -}}
  {{- if not (or (eq $lane "default") (hasKey $v.lanes $lane)) -}}
    {{- fail (printf "opsrelay.listeners[%d].lane: %s is not in opsrelay.lanes" $i $lane) -}}
  {{- end -}}
{{- end -}}
{{- if and $v.monitoring.podMonitor.enabled (not $v.metrics.enabled) -}}
  {{- fail "opsrelay.monitoring.podMonitor.enabled: needs opsrelay.metrics.enabled; there is nothing to scrape" -}}
{{- end -}}
{{- if not $v.spool.claimName -}}
  {{- $max := include "opsrelay.bytes" $v.spool.maxBytes | int64 -}}
  {{- $limit := include "opsrelay.bytes" $v.spool.sizeLimit | int64 -}}
  {{- $least := add (div (mul $max 3) 2) 67108864 -}}
  {{- if lt $limit $least -}}
    {{- fail (printf "opsrelay.spool.sizeLimit: %s is too small for spool.maxBytes %s; it must be at least 1.5 times that plus 64Mi, which is %dMi" $v.spool.sizeLimit $v.spool.maxBytes (div $least 1048576)) -}}
  {{- end -}}
{{- end -}}
{{- end -}}

{{/* Bytes of "512MiB", "1Gi" and the like; the schema has checked the form. */}}
{{- define "opsrelay.bytes" -}}
{{- $number := regexFind "^[0-9]+" . | int64 -}}
{{- if contains "Gi" . -}}
{{- mul $number 1073741824 -}}
{{- else if contains "Mi" . -}}
{{- mul $number 1048576 -}}
{{- else -}}
{{- mul $number 1024 -}}
{{- end -}}
{{- end -}}
