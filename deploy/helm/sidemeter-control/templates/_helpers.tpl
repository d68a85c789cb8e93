{{- define "sidemeter-control.labels" -}}
{{ include "sidemeter-control.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "sidemeter-control.selector" -}}
app.kubernetes.io/name: sidemeter-control
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "sidemeter-control.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- /* What no values file can make right is said before anything is installed. */}}
{{- define "sidemeter-control.check" -}}
{{- if and (gt (int .Values.replicas) 1) (eq .Values.database.kind "sqlite") }}
{{- fail (printf "replicas: must be 1 with database.kind sqlite, and is %d: a SQLite file is one process's. Use one control plane, which agents can do without for a while" (int .Values.replicas)) }}
{{- end }}
{{- if and (eq .Values.database.kind "postgresql") (not .Values.database.existingSecret) }}
{{- fail "database.existingSecret: must name a secret with the database URL: it holds a password" }}
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) }}
{{- fail "ingress.host: must be set with ingress.enabled" }}
{{- end }}
{{- if and .Values.serviceMonitor.enabled (not .Values.serviceMonitor.existingSecret) }}
{{- fail "serviceMonitor.existingSecret: must name a secret with a key of scope READ: /metrics asks for one" }}
{{- end }}
{{- end }}

{{- define "sidemeter-control.strategy" -}}
{{- .Values.strategy | default (ternary "RollingUpdate" "Recreate" (gt (int .Values.replicas) 1)) }}
{{- end }}

{{- define "sidemeter-control.probe" -}}
httpGet:
  path: {{ .path }}
  port: http
  scheme: {{ if .root.Values.tls.existingSecret }}HTTPS{{ else }}HTTP{{ end }}
timeoutSeconds: 5
{{- end }}

{{- define "sidemeter-control.pod" -}}
metadata:
  labels:
    {{- include "sidemeter-control.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .Values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- with .Values.serviceAccountName }}
  serviceAccountName: {{ . }}
  {{- end }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  containers:
    - name: control-plane
      image: {{ .Values.image.repository }}{{ if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      env:
        - name: SIDEMETER_LISTEN
          value: 0.0.0.0:8780
        - name: SIDEMETER_DATABASE
          {{- if eq .Values.database.kind "sqlite" }}
          value: sqlite:////var/lib/sidemeter/data/control.db
          {{- else }}
          valueFrom:
            secretKeyRef:
              name: {{ .Values.database.existingSecret }}
              key: {{ .Values.database.key }}
        - name: SIDEMETER_WITNESS
          value: /var/lib/sidemeter/database.holders
          {{- end }}
        {{- if .Values.adminKey.existingSecret }}
        - name: SIDEMETER_ADMIN_KEY
          valueFrom:
            secretKeyRef:
              name: {{ .Values.adminKey.existingSecret }}
              key: {{ .Values.adminKey.key }}
        {{- end }}
        {{- if .Values.tls.existingSecret }}
        - name: SIDEMETER_TLS_CERT
          value: /etc/sidemeter/tls/tls.crt
        - name: SIDEMETER_TLS_KEY
          value: /etc/sidemeter/tls/tls.key
        {{- end }}
        {{- range $name, $value := .Values.settings }}
        - name: SIDEMETER_{{ upper $name }}
          value: {{ if kindIs "bool" $value }}{{ ternary "yes" "no" $value | quote }}{{ else if kindIs "float64" $value }}{{ int64 $value | toString | quote }}{{ else }}{{ $value | quote }}{{ end }}
        {{- end }}
        {{- with .Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - name: http
          containerPort: 8780
      {{- if and (ne .Values.database.kind "sqlite") (eq (include "sidemeter-control.strategy" .) "RollingUpdate") }}
      # Whoever sends requests here has time to hear that this pod goes, before it takes no more.
      lifecycle:
        preStop:
          exec:
            command: [/opt/sidemeter/bin/python3, -c, import time; time.sleep(5)]
      {{- end }}
      # A start migrates the database, which takes its time where it is large.
      startupProbe:
        {{- include "sidemeter-control.probe" (dict "root" . "path" "/healthz") | nindent 8 }}
        periodSeconds: 2
        failureThreshold: 300
      livenessProbe:
        {{- include "sidemeter-control.probe" (dict "root" . "path" "/healthz") | nindent 8 }}
        periodSeconds: 10
        failureThreshold: 6
      readinessProbe:
        {{- include "sidemeter-control.probe" (dict "root" . "path" "/readyz") | nindent 8 }}
        periodSeconds: 5
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        - name: data
          mountPath: /var/lib/sidemeter
        - name: tmp
          mountPath: /tmp
        {{- if .Values.tls.existingSecret }}
        - name: tls
          mountPath: /etc/sidemeter/tls
          readOnly: true
        {{- end }}
  volumes:
    - name: tmp
      emptyDir:
        sizeLimit: 64Mi
    {{- if ne .Values.database.kind "sqlite" }}
    - name: data
      emptyDir:
        sizeLimit: 64Mi
    {{- end }}
    {{- with .Values.tls.existingSecret }}
    - name: tls
      secret:
        secretName: {{ . }}
        defaultMode: 0440
    {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
