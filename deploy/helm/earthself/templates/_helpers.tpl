{{/* What all templates share: names, labels, security, volumes, and the API versions that this cluster knows. */}}

{{- define "earthself.fullname" -}}
{{- ternary .Release.Name (printf "%s-earthself" .Release.Name) (contains "earthself" .Release.Name) | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* Labels that select a component's pods: never changed, since a Deployment cannot change its selector. Takes {root, component}. */}}
{{- define "earthself.selector" -}}
app.kubernetes.io/name: earthself
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "earthself.labels" -}}
{{ include "earthself.selector" . }}
app.kubernetes.io/part-of: earthself
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{/* Metadata of an object. Takes {root, component} and, where they differ, name and namespace. */}}
{{- define "earthself.metadata" -}}
name: {{ .name | default (printf "%s-%s" (include "earthself.fullname" .root) .component) }}
namespace: {{ .namespace | default .root.Release.Namespace }}
labels:
  {{- include "earthself.labels" . | nindent 2 }}
{{- end }}

{{/* What every pod has, fit for the "restricted" level. Takes {root, account} where one is needed, which then has a token. */}}
{{- define "earthself.pod" -}}
serviceAccountName: {{ .account | default (printf "%s-none" (include "earthself.fullname" .root)) }}
automountServiceAccountToken: {{ hasKey . "account" }}
enableServiceLinks: false
{{- if .root.Values.pods.hostNetwork }}
hostNetwork: true
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 50000
  runAsGroup: 50000
  fsGroup: 50000
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .root.Values.pods.nodeSelector }}
nodeSelector: {{ toJson . }}
{{- end }}
{{- with .root.Values.pods.tolerations }}
tolerations: {{ toJson . }}
{{- end }}
{{- end }}

{{- define "earthself.podMetadata" -}}
labels:
  {{- include "earthself.labels" . | nindent 2 }}
  {{- with .root.Values.pods.labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "earthself.container" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* A hostNetwork pod holds its ports on the node, so the old one has to go before the new one comes. */}}
{{- define "earthself.strategy" -}}
{{- if .Values.pods.hostNetwork }}{type: Recreate}{{ else }}{type: RollingUpdate, rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}{{ end }}
{{- end }}

{{/* A volume as Kubernetes writes it. Takes {root, name, volume}. */}}
{{- define "earthself.volume" -}}
{{- if .volume.hostPath -}}
hostPath: {path: {{ .volume.hostPath }}}
{{- else -}}
persistentVolumeClaim: {claimName: {{ .volume.existingClaim | default (printf "%s-%s" (include "earthself.fullname" .root) .name) }}}
{{- end }}
{{- end }}

{{- define "earthself.stepsNamespace" -}}
{{ .Values.steps.namespace | default .Release.Namespace }}
{{- end }}

{{/* host:port of EarthSignature as the platform asks for it. */}}
{{- define "earthself.signature" -}}
{{ .Values.signature.address | default (printf "%s-signature.%s.svc:%v" (include "earthself.fullname" .) .Release.Namespace .Values.signature.port) }}
{{- end }}

{{/* Address of the download broker. */}}
{{- define "earthself.broker" -}}
http://{{ include "earthself.fullname" . }}-broker.{{ .Release.Namespace }}.svc:{{ .Values.broker.port }}
{{- end }}

{{- define "earthself.keysSecret" -}}
{{ .Values.keys.existingSecret | default (printf "%s-keys" (include "earthself.fullname" .)) }}
{{- end }}

{{/* Changed configuration starts pods anew. */}}
{{- define "earthself.checksums" -}}
checksum/config: {{ include (print .root.Template.BasePath "/airflow-config.yaml") .root | sha256sum }}
{{- with .root.Values.pods.annotations }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "earthself.cronJobApi" -}}
{{- semverCompare ">=1.21-0" .Capabilities.KubeVersion.Version | ternary "batch/v1" "batch/v1beta1" }}
{{- end }}
{{- define "earthself.disruptionApi" -}}
{{- semverCompare ">=1.21-0" .Capabilities.KubeVersion.Version | ternary "policy/v1" "policy/v1beta1" }}
{{- end }}
{{- define "earthself.autoscalingApi" -}}
{{- semverCompare ">=1.23-0" .Capabilities.KubeVersion.Version | ternary "autoscaling/v2" "autoscaling/v2beta2" }}
{{- end }}

{{/* The components that run all the time, as a JSON list. */}}
{{- define "earthself.components" -}}
{{- $made := list "api-server" "scheduler" "dag-processor" "triggerer" }}
{{- if eq .Values.airflow.executor "CeleryExecutor" }}{{ $made = append $made "worker" }}{{ end }}
{{- if .Values.signature.enabled }}{{ $made = append $made "signature" }}{{ end }}
{{- if and .Values.signature.enabled .Values.signature.web.enabled }}{{ $made = append $made "web" }}{{ end }}
{{- if .Values.broker.enabled }}{{ $made = append $made "broker" }}{{ end }}
{{- toJson $made }}
{{- end }}

{{/* The components that run tasks or wait for them, as a JSON list. */}}
{{- define "earthself.taskRunners" -}}
{{- list (eq .Values.airflow.executor "LocalExecutor" | ternary "scheduler" "worker") "triggerer" | toJson }}
{{- end }}

{{/* A value as text. Numbers come as floating ones from YAML, and would be written as 2e+06. */}}
{{- define "earthself.plain" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) }}{{ int64 . }}{{ else }}{{ toString . }}{{ end }}
{{- end }}
