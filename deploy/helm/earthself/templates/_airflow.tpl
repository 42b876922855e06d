{{/* What Airflow's parts share: their settings, and the pod that all of them are. */}}

{{/* Airflow's settings by section; `airflow.config` lies over them. */}}
{{- define "earthself.airflow.settings" -}}
{{- $url := ternary (printf "https://%s" .Values.ingress.host) (printf "http://localhost:%v" .Values.apiServer.port) .Values.ingress.enabled }}
{{- $shipped := dict "name" "earthself" "classpath" "airflow.dag_processing.bundles.local.LocalDagBundle" "kwargs" (dict "path" "/opt/earthself/dags") }}
core:
  executor: {{ eq .Values.airflow.executor "LocalExecutor" | ternary "earthself.operators.executor.PreparedLocalExecutor" .Values.airflow.executor }}
  parallelism: "32"
  max_active_tasks_per_dag: "32"
  dags_are_paused_at_creation: "False"
  execution_api_server_url: http://{{ include "earthself.fullname" . }}-api-server.{{ .Release.Namespace }}.svc:{{ .Values.apiServer.port }}/execution/
  hostname_callable: socket.gethostname
  {{- if eq .Values.auth.kind "simple" }}
  auth_manager: airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager
  simple_auth_manager_users: {{ .Values.auth.simple.users | quote }}
  simple_auth_manager_passwords_file: /opt/airflow/passwords.json
  {{- else }}
  auth_manager: airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager
  {{- end }}
api:
  host: 0.0.0.0
  port: {{ .Values.apiServer.port | quote }}
  workers: {{ .Values.apiServer.processes | quote }}
  base_url: {{ $url }}
logging:
  base_log_folder: /opt/earthself/logs
  {{- if .Values.monitoring.jsonLogs }}
  json_logs: "True"
  {{- end }}
{{- if .Values.monitoring.openTelemetry.endpoint }}
metrics:                               # docs/operations.md says why these and no others
  otel_on: "True"
  legacy_names_on: "False"
  metrics_allow_list: '^scheduler,^executor\.,^pool\.,^trigger,^dag_process,^dagrun\.,^dagbag_size,^asset'
{{- end }}
scheduler:
  enable_health_check: "True"
  scheduler_health_check_server_port: {{ .Values.scheduler.healthPort | quote }}
  scheduler_idle_sleep_time: "0.2"
workers:
  execution_api_retries: "30"          # a task bears a restart of the web server
  execution_api_retry_wait_max: "5"
  execution_api_timeout: "30"
dag_processor:
  dag_bundle_config_list: {{ prepend .Values.airflow.bundles $shipped | toJson | quote }}
  dag_bundle_storage_path: /opt/airflow/bundles
{{- if eq .Values.auth.kind "oidc" }}
fab:
  config_file: /opt/earthself/config/webserver_config.py
{{- end }}
{{- if eq .Values.airflow.executor "CeleryExecutor" }}
celery:
  worker_concurrency: {{ .Values.workers.concurrency | quote }}
{{- end }}
{{- if eq .Values.airflow.executor "KubernetesExecutor" }}
kubernetes_executor:
  namespace: {{ .Release.Namespace }}
  pod_template_file: /opt/earthself/config/pod.yaml
{{- end }}
{{- end }}

{{/* Variables that come from Secrets. Order counts: Kubernetes puts $(…) together from what stands above. */}}
{{- define "earthself.airflow.env" -}}
{{- $database := .Values.database.existingSecret }}
{{- $keys := include "earthself.keysSecret" . }}
- {name: AIRFLOW__DATABASE__SQL_ALCHEMY_CONN, valueFrom: {secretKeyRef: {name: {{ $database }}, key: airflow}}}
- {name: AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC, valueFrom: {secretKeyRef: {name: {{ $database }}, key: airflow}}}
- {name: EARTHSELF_DATABASE_URL, valueFrom: {secretKeyRef: {name: {{ $database }}, key: platform}}}
- {name: AIRFLOW__CORE__FERNET_KEY, valueFrom: {secretKeyRef: {name: {{ $keys }}, key: fernet-key}}}
- {name: AIRFLOW__API_AUTH__JWT_SECRET, valueFrom: {secretKeyRef: {name: {{ $keys }}, key: jwt-secret}}}
- {name: AIRFLOW__API__SECRET_KEY, valueFrom: {secretKeyRef: {name: {{ $keys }}, key: api-secret-key}}}
{{- if eq .Values.airflow.executor "CeleryExecutor" }}
- {name: AIRFLOW__CELERY__BROKER_URL, valueFrom: {secretKeyRef: {name: {{ required "celery.brokerSecret: CeleryExecutor needs a Secret with the key url" .Values.celery.brokerSecret }}, key: url}}}
{{- end }}
{{- if .Values.signature.tokensSecret }}
- {name: SIGNATURE_TOKEN, valueFrom: {secretKeyRef: {name: {{ .Values.signature.tokensSecret }}, key: token}}}
{{- end }}
- name: AIRFLOW_CONN_EARTHSIGNATURE_DEFAULT
  value: {{ include "earthself.airflow.signature" . | quote }}
{{- if .Values.broker.enabled }}
- {name: EARTHSELF_BROKER_TOKEN, valueFrom: {secretKeyRef: {name: {{ .Values.broker.tokenSecret }}, key: token}}}
- name: AIRFLOW_CONN_EARTHSELF_BROKER
  value: {{ dict "conn_type" "http" "password" "$(EARTHSELF_BROKER_TOKEN)" | toJson | quote }}
{{- end }}
{{- if contains "@sha256:" .Values.images.airflow }}
- {name: EARTHSELF_IMAGE, value: {{ .Values.images.airflow | quote }}}
{{- end }}
{{- with .Values.monitoring.openTelemetry.endpoint }}
- {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
- {name: OTEL_RESOURCE_ATTRIBUTES, value: service.instance.id=$(POD_NAME)}
- {name: OTEL_EXPORTER_OTLP_METRICS_ENDPOINT, value: {{ . | quote }}}
{{- end }}
- {name: DUMB_INIT_SETSID, value: "0"}   # a restart tells the part, not the tasks that it waits for
{{- with .Values.airflow.env }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The connection earthsignature_default. */}}
{{- define "earthself.airflow.signature" -}}
{{- $place := splitList ":" (include "earthself.signature" .) }}
{{- $extra := dict }}
{{- if .Values.signature.tlsSecret }}
{{- $_ := set $extra "tls" true }}
{{- if .Values.signature.ca }}{{ $_ := set $extra "tls_ca" "/opt/earthself/signature/ca.crt" }}{{ end }}
{{- end }}
{{- $made := dict "conn_type" "earthsignature" "host" (first $place) "port" (last $place | int) "extra" $extra }}
{{- if .Values.signature.tokensSecret }}{{ $_ := set $made "password" "$(SIGNATURE_TOKEN)" }}{{ end }}
{{- toJson $made }}
{{- end }}

{{/* The connection kubernetes_default: where steps run (docs/pods.md). */}}
{{- define "earthself.airflow.kubernetes" -}}
{{- $volume := include "earthself.volume" (dict "root" . "name" "workspace" "volume" .Values.workspace) | fromYaml }}
{{- $template := .Values.steps.template }}
{{- $labels := dict "app.kubernetes.io/name" "earthself-step" "app.kubernetes.io/instance" .Release.Name }}
{{- $base := dict "metadata" (dict "labels" $labels) "spec" (dict "containers" (list (dict "name" "step" "imagePullPolicy" .Values.images.pullPolicy))) }}
{{- if .Values.images.pullSecrets }}
{{- $secrets := list }}{{ range .Values.images.pullSecrets }}{{ $secrets = append $secrets (dict "name" .) }}{{ end }}
{{- $_ := set $base.spec "imagePullSecrets" $secrets }}
{{- end }}
{{- $cloud := dict "image" .Values.images.processing "workspace" (.Values.steps.workspace | default $volume) "patience" .Values.steps.patience "template" (mergeOverwrite $base (deepCopy $template)) }}
{{- if .Values.broker.enabled }}{{ $_ := set $cloud "broker" (dict "address" (include "earthself.broker" .) "connection" "earthself_broker") }}{{ end }}
{{- dict "conn_type" "kubernetes" "extra" (dict "in_cluster" true "namespace" (include "earthself.stepsNamespace" .) "earthself" $cloud) | toJson }}
{{- end }}

{{/* A pod of Airflow. Takes {root, component, args, values} and, where there are, account, ports, probes, init, mounts, volumes, grace. */}}
{{- define "earthself.airflow.pod" -}}
{{- $root := .root }}
metadata:
  {{- include "earthself.podMetadata" . | nindent 2 }}
  annotations:
    {{- include "earthself.checksums" . | nindent 4 }}
spec:
  {{- include "earthself.pod" . | nindent 2 }}
  terminationGracePeriodSeconds: {{ .grace | default 60 }}
  initContainers:
    - name: wait-for-database
      {{- include "earthself.airflow.container" . | nindent 6 }}
      args: [db, check-migrations, --migration-wait-timeout, {{ $root.Values.pods.startSeconds | quote }}]
      resources: {requests: {cpu: 50m, memory: 256Mi}, limits: {memory: 1Gi}}
    {{- with .init }}
    {{- . | nindent 4 }}
    {{- end }}
  containers:
    - name: {{ .component }}
      {{- include "earthself.airflow.container" . | nindent 6 }}
      args: {{ toJson .args }}
      resources: {{ toJson .values.resources }}
      {{- with .ports }}
      ports: {{ toJson . }}
      {{- end }}
      {{- with .probes }}
      {{- . | nindent 6 }}
      {{- end }}
  volumes:
    {{- include "earthself.airflow.volumes" . | nindent 4 }}
{{- end }}

{{- define "earthself.airflow.container" -}}
{{- $root := .root -}}
image: {{ $root.Values.images.airflow }}
imagePullPolicy: {{ $root.Values.images.pullPolicy }}
{{ include "earthself.container" . }}
envFrom:
  - configMapRef: {name: {{ include "earthself.fullname" $root }}-airflow}
  {{- with $root.Values.airflow.connectionsSecret }}
  - secretRef: {name: {{ . }}}
  {{- end }}
env:
  {{- include "earthself.airflow.env" $root | nindent 2 }}
  {{- with .env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
volumeMounts:
  - {name: home, mountPath: /opt/airflow}
  - {name: tmp, mountPath: /tmp}
  - {name: workspace, mountPath: /workspace}
  - {name: logs, mountPath: /opt/earthself/logs}
  {{- if include "earthself.airflow.hasFiles" $root }}
  - {name: config, mountPath: /opt/earthself/config, readOnly: true}
  {{- end }}
  {{- if $root.Values.storage.keysSecret }}
  - {name: storage-keys, mountPath: /opt/earthself/keys, readOnly: true}
  {{- end }}
  {{- if and $root.Values.signature.tlsSecret $root.Values.signature.ca }}
  - {name: signature, mountPath: /opt/earthself/signature, readOnly: true}
  {{- end }}
  {{- with .mounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "earthself.airflow.volumes" -}}
{{- $root := .root -}}
- {name: home, emptyDir: {}}
- {name: tmp, emptyDir: {}}
- name: workspace
  {{- include "earthself.volume" (dict "root" $root "name" "workspace" "volume" $root.Values.workspace) | nindent 2 }}
- name: logs
  {{- include "earthself.volume" (dict "root" $root "name" "logs" "volume" $root.Values.logs) | nindent 2 }}
{{- if include "earthself.airflow.hasFiles" $root }}
- {name: config, configMap: {name: {{ include "earthself.fullname" $root }}-airflow-files}}
{{- end }}
{{- with $root.Values.storage.keysSecret }}
- {name: storage-keys, secret: {secretName: {{ . }}, defaultMode: 0400}}
{{- end }}
{{- if and $root.Values.signature.tlsSecret $root.Values.signature.ca }}
- name: signature
  secret: {secretName: {{ $root.Values.signature.tlsSecret }}, items: [{key: {{ $root.Values.signature.ca }}, path: ca.crt}]}
{{- end }}
{{- with .volumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Probe of a part that has no port: its own heartbeat in the database. It starts a Python, so it is asked rarely. */}}
{{- define "earthself.airflow.heartbeat" -}}
livenessProbe:
  exec: {command: [airflow-health]}
  initialDelaySeconds: 60
  periodSeconds: 120
  timeoutSeconds: 60
  failureThreshold: 4
{{- end }}

{{/* Says something where Airflow needs files, and nothing where variables are enough. */}}
{{- define "earthself.airflow.hasFiles" -}}
{{- if or (eq .Values.auth.kind "oidc") (eq .Values.airflow.executor "KubernetesExecutor") .Values.storage.profiles }}true{{ end }}
{{- end }}

{{/* The pod of a task under the KubernetesExecutor. */}}
{{- define "earthself.airflow.taskPod" -}}
{{- $context := dict "root" . "component" "worker" "account" (printf "%s-tasks" (include "earthself.fullname" .)) -}}
apiVersion: v1
kind: Pod
metadata:
  {{- include "earthself.podMetadata" $context | nindent 2 }}
spec:
  {{- include "earthself.pod" $context | nindent 2 }}
  restartPolicy: Never
  containers:
    - name: base   # the executor gives a whole command as arguments
      {{- include "earthself.airflow.container" $context | nindent 6 }}
      command: [dumb-init, --]
      resources: {{ toJson .Values.workers.resources }}
  volumes:
    {{- include "earthself.airflow.volumes" $context | nindent 4 }}
{{- end }}

{{/* Single sign-on: Flask-AppBuilder's settings, with the groups of the token as roles. */}}
{{- define "earthself.airflow.signOn" -}}
{{- $oidc := .Values.auth.oidc -}}
import json
import os

from flask_appbuilder.const import AUTH_OAUTH

from airflow.providers.fab.auth_manager.security_manager.override import FabAirflowSecurityManagerOverride

_SAID = json.loads({{ dict "username" $oidc.usernameClaim "roles" $oidc.rolesClaim | toJson | quote }})

AUTH_TYPE = AUTH_OAUTH
AUTH_USER_REGISTRATION = True
AUTH_USER_REGISTRATION_ROLE = {{ $oidc.defaultRole | quote }}
AUTH_ROLES_SYNC_AT_LOGIN = True
AUTH_ROLES_MAPPING = json.loads({{ $oidc.roles | toJson | quote }})
PERMANENT_SESSION_LIFETIME = 43200
OAUTH_PROVIDERS = [
    {
        "name": "oidc",
        "icon": "fa-key",
        "token_key": "access_token",
        "remote_app": {
            "client_id": {{ $oidc.clientId | quote }},
            "client_secret": os.environ["OIDC_CLIENT_SECRET"],
            "server_metadata_url": {{ printf "%s/.well-known/openid-configuration" (trimSuffix "/" $oidc.issuer) | quote }},
            "client_kwargs": {"scope": {{ $oidc.scope | quote }}},
        },
    }
]


class SECURITY_MANAGER_CLASS(FabAirflowSecurityManagerOverride):
    """Reads who somebody is from what the provider signed."""

    def get_oauth_user_info(self, provider, response):
        """Give name, address and groups of who signs in."""
        said = response.get("userinfo") or self.oauth_remotes[provider].userinfo(token=response)
        return {
            "username": said[_SAID["username"]],
            "email": said.get("email", ""),
            "first_name": said.get("given_name", ""),
            "last_name": said.get("family_name", ""),
            "role_keys": said.get(_SAID["roles"], []),
        }
{{- end }}
