{{/* What EarthSignature's two servers share. Each container takes {root, component}. */}}

{{- define "earthself.signature.container" -}}
{{- $signature := .root.Values.signature -}}
image: {{ .root.Values.images.earthsignature }}
imagePullPolicy: {{ .root.Values.images.pullPolicy }}
{{ include "earthself.container" . }}
env:
  - {name: EARTHSELF_SIGNATURE_DATABASE_URL, valueFrom: {secretKeyRef: {name: {{ .root.Values.database.existingSecret }}, key: signature}}}
  - {name: EARTHSELF_SIGNATURE_PORT, value: {{ $signature.port | quote }}}
  - {name: EARTHSELF_SIGNATURE_SERVER, value: {{ include "earthself.signature" .root | quote }}}
  {{- if eq .component "signature" }}
  - {name: EARTHSELF_SIGNATURE_TLS_CERT, value: /tls/tls.crt}
  - {name: EARTHSELF_SIGNATURE_TLS_KEY, value: /tls/tls.key}
  {{- with $signature.ca }}
  - {name: EARTHSELF_SIGNATURE_TLS_CA, value: /tls/{{ . }}}
  {{- end }}
  {{- end }}
  - {name: EARTHSELF_SIGNATURE_TOKENS, value: /private/tokens.json}
  - {name: EARTHSELF_SIGNATURE_READ, value: {{ $signature.read }}}
  - {name: EARTHSELF_DATA_PORT, value: {{ $signature.web.port | quote }}}
  - {name: EARTHSELF_WORKSPACE, value: /workspace}
  {{- if .root.Values.monitoring.jsonLogs }}
  - {name: EARTHSELF_LOG_FORMAT, value: json}
  {{- end }}
  {{- if .root.Values.monitoring.serviceMonitor.enabled }}
  - {name: EARTHSELF_{{ eq .component "web" | ternary "DATA" "SIGNATURE" }}_METRICS, value: "0.0.0.0:{{ .root.Values.monitoring.serviceMonitor.port }}"}
  {{- end }}
volumeMounts:
  - {name: store, mountPath: /data}
  - {name: tmp, mountPath: /tmp}
  {{- if eq .component "signature" }}
  - {name: tls, mountPath: /tls, readOnly: true}
  {{- end }}
  - {name: private, mountPath: /private, readOnly: true}
{{- end }}

{{/* The server refuses a list of tokens that others can read, as a Secret's files are. */}}
{{- define "earthself.signature.tokens" -}}
- name: tokens
  image: {{ .root.Values.images.earthsignature }}
  imagePullPolicy: {{ .root.Values.images.pullPolicy }}
  {{- include "earthself.container" . | nindent 2 }}
  command: [install, -m, "600", /tokens/tokens.json, /private/tokens.json]
  resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {memory: 64Mi}}
  volumeMounts:
    - {name: private, mountPath: /private}
    - {name: tokens, mountPath: /tokens, readOnly: true}
{{- end }}

{{- define "earthself.signature.volumes" -}}
- name: store
  {{- include "earthself.volume" (dict "root" .root "name" "signature" "volume" .root.Values.signature.store) | nindent 2 }}
- {name: tmp, emptyDir: {}}
- {name: private, emptyDir: {medium: Memory}}
{{- if eq .component "signature" }}
- name: tls
  secret: {secretName: {{ .root.Values.signature.tlsSecret }}}
{{- end }}
- name: tokens
  secret: {secretName: {{ .root.Values.signature.tokensSecret }}, items: [{key: tokens.json, path: tokens.json}]}
{{- end }}
