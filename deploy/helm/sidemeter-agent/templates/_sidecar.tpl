{{- /*
The agent beside a container, in the pod template of your chart. Each takes a dict:

  service         the name of the service; required
  controlPlane    URL of the control plane; required
  existingSecret  the secret with the agent's key, of scope AGENT; required
  key             its name in there; default api-key
  image           default sidemeter-agent:0.1.0
  settings        any other setting by its name, as `sidemeter agent --help` lists them: listen, drain_s, on_unknown …
  resources       default 100m and 128Mi, at most 512Mi
  bufferSize      of the buffer, where it is an emptyDir; default 2Gi
  claim           a PersistentVolumeClaim for the buffer, in place of an emptyDir: what waits then outlives the pod
  runAsUser       default 65532. The socket is for one user alone: the container that uses it must run as the same one

  initContainers:  {{- include "sidemeter-agent.container" $agent | nindent 8 }}
  volumes:         {{- include "sidemeter-agent.volumes" $agent | nindent 8 }}
  and in your container
    env:           {{- include "sidemeter-agent.env" $agent | nindent 12 }}
    volumeMounts:  {{- include "sidemeter-agent.mounts" $agent | nindent 12 }}
*/}}

{{- define "sidemeter-agent.container" -}}
- name: sidemeter-agent
  image: {{ .image | default "sidemeter-agent:0.1.0" }}
  # A native sidecar: started before the service's containers, and stopped after the last of them.
  restartPolicy: Always
  securityContext:
    runAsNonRoot: true
    runAsUser: {{ .runAsUser | default 65532 }}
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities:
      drop: [ALL]
    seccompProfile:
      type: RuntimeDefault
  env:
    - name: SIDEMETER_SERVICE
      value: {{ required "service: must be set: it names whose events these are" .service | quote }}
    - name: SIDEMETER_CONTROL_PLANE
      value: {{ required "controlPlane: must be the URL of the control plane" .controlPlane | quote }}
    - name: SIDEMETER_API_KEY
      valueFrom:
        secretKeyRef:
          name: {{ required "existingSecret: must name a secret with a key of scope AGENT" .existingSecret }}
          key: {{ .key | default "api-key" }}
    # A directory that the agent makes, for itself alone: that of a volume has the mode that Kubernetes gives it.
    - name: SIDEMETER_DATA_DIR
      value: /var/lib/sidemeter/agent
    - name: SIDEMETER_SOCKET
      value: /run/sidemeter/agent.sock
    - name: SIDEMETER_CELL_DIR
      value: /run/sidemeter-cell
    {{- range $name, $value := .settings }}
    - name: SIDEMETER_{{ upper $name }}
      value: {{ if and (kindIs "float64" $value) (eq (floor $value) $value) }}{{ int64 $value | toString | quote }}{{ else }}{{ $value | toString | quote }}{{ end }}
    {{- end }}
  # The agent listens on the pod's loopback at most, which a kubelet does not reach: it is asked from inside.
  startupProbe:
    exec:
      command: [sidemeter, ready]
    periodSeconds: 1
    timeoutSeconds: 10
    failureThreshold: 60
  livenessProbe:
    exec:
      command: [sidemeter, ready, --alive]
    periodSeconds: 30
    timeoutSeconds: 10
    failureThreshold: 4
  resources:
    {{- .resources | default (dict "requests" (dict "cpu" "100m" "memory" "128Mi") "limits" (dict "memory" "512Mi")) | toYaml | nindent 4 }}
  volumeMounts:
    - name: sidemeter-buffer
      mountPath: /var/lib/sidemeter
    - name: sidemeter-cell
      mountPath: /run/sidemeter-cell
    - name: sidemeter-socket
      mountPath: /run/sidemeter
{{- end }}

{{- define "sidemeter-agent.volumes" -}}
- name: sidemeter-buffer
  {{- if .claim }}
  persistentVolumeClaim:
    claimName: {{ .claim }}
  {{- else }}
  emptyDir:
    sizeLimit: {{ .bufferSize | default "2Gi" }}
  {{- end }}
# In memory: what is spent of hard limits outlives a kill of the container there, and not the node.
- name: sidemeter-cell
  emptyDir:
    medium: Memory
    sizeLimit: 64Mi
- name: sidemeter-socket
  emptyDir:
    medium: Memory
    sizeLimit: 1Mi
{{- end }}

{{- define "sidemeter-agent.env" -}}
- name: SIDEMETER_SOCKET
  value: /run/sidemeter/agent.sock
{{- end }}

{{- define "sidemeter-agent.mounts" -}}
- name: sidemeter-socket
  mountPath: /run/sidemeter
{{- end }}
