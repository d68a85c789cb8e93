"""The charts as Helm renders them: what Kubernetes takes, what the programs take, and what the chart refuses."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from deployed import DEPLOY, NOBODY, ROOT, SECRETS, VERSION, check_command, paths, settings_of

from sidemeter.settings import Settings as AgentSettings
from sidemeter_control.settings import Settings as ControlSettings
from sidemeter_control.settings import host_and_port

HELM = DEPLOY / "helm"
CONTROL, EXAMPLE = HELM / "sidemeter-control", HELM / "example-service"
KUBERNETES = ("1.29", "1.37")
"""The oldest that takes native sidecars without being asked to, and the newest with a schema."""

NO_SCHEMA = {"ServiceMonitor"}
"""Kinds that Kubernetes itself does not know."""

EVERYTHING = {
    "tls": {"existingSecret": "certificate"},
    "ingress": {"enabled": True, "host": "meter.example.com", "className": "nginx", "tlsSecret": "public"},
    "networkPolicy": {"enabled": True, "from": [{"namespaceSelector": {}}]},
    "podDisruptionBudget": {"enabled": True},
    "serviceMonitor": {"enabled": True, "existingSecret": "figures", "labels": {"release": "prometheus"}},
    "settings": {"public_url": "https://meter.example.com", "rate_events_per_s": 2_000_000, "private_webhooks": True},
    "extraEnv": [{"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://collector:4318"}],
    "persistence": {"size": "50Gi", "storageClassName": "local"},
    "service": {"annotations": {"a": "b"}},
    "podAnnotations": {"a": "b"},
    "podLabels": {"team": "billing"},
    "imagePullSecrets": [{"name": "registry"}],
    "image": {"digest": "sha256:" + "0" * 64},
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "billing", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "high",
    "serviceAccountName": "meter",
}
POSTGRES = {"database": {"kind": "postgresql", "existingSecret": "database"}}
CASES: dict[str, tuple[Path, dict[str, Any]]] = {
    "defaults": (CONTROL, {}),
    "everything": (CONTROL, EVERYTHING),
    "postgresql": (CONTROL, POSTGRES),
    "postgresql and everything": (CONTROL, EVERYTHING | POSTGRES),
    "three on postgresql": (CONTROL, EVERYTHING | POSTGRES | {"replicas": 3}),
    "sidecar": (EXAMPLE, {}),
    "sidecar with settings": (
        EXAMPLE,
        {"agent": {"settings": {"drain_s": 20, "flush_after_s": 0.5, "compress": False}, "claim": "buffer"}},
    ),
}

RENDER = """
import json, shutil, sys, tempfile
from pathlib import Path
import helm_python as helm
chart, values, libraries = Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:]
with tempfile.TemporaryDirectory() as directory:
    whole = Path(directory, chart.name)
    shutil.copytree(chart, whole)
    for each in libraries:
        shutil.copytree(each, whole / "charts" / Path(each).name)
    try:
        with helm.Chart.load(whole) as loaded:
            loaded.validate_schema(values)
            print(json.dumps(loaded.render(values, name=chart.name, namespace="metering")))
    except helm.HelmError as exc:
        sys.exit(str(exc))
"""
"""In a process of its own, for it brings the Go runtime."""

needs_helm = pytest.mark.skipif(find_spec("helm_python") is None, reason="helm-python-sdk is not installed")


def helm(chart: Path, values: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    libraries = [str(HELM / "sidemeter-agent")] if chart == EXAMPLE else []
    command = [sys.executable, "-c", RENDER, str(chart), json.dumps(values), *libraries]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def manifests(chart: Path, values: dict[str, Any]) -> str:
    """What `helm template` would print, and `kubectl apply` take."""
    done = helm(chart, values)
    assert done.returncode == 0, done.stderr
    texts = sorted(item for item in json.loads(done.stdout).items() if item[0].endswith(".yaml") and item[1].strip())
    return "".join(f"---\n# Source: {name}\n{text.strip()}\n" for name, text in texts)


def kept() -> dict[Path, tuple[Path, dict[str, Any]]]:
    """The manifests in the repository, each with what it is made of."""
    return {
        DEPLOY / "kubernetes" / "control-plane.yaml": CASES["defaults"],
        DEPLOY / "kubernetes" / "service-with-agent.yaml": CASES["sidecar"],
    }


@pytest.fixture(scope="module", params=CASES)
def resources(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    pytest.importorskip("helm_python")
    return list(yaml.safe_load_all(manifests(*CASES[request.param])))


def pods(resources: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each["spec"]["template"]["spec"] for each in resources if "template" in each.get("spec", {})]


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def environ(container: dict[str, Any]) -> dict[str, str]:
    """What a container finds in its environment, secrets filled in."""
    given = container.get("env", [])
    return {each["name"]: each["value"] if "value" in each else SECRETS[each["name"]] for each in given}


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_takes_what_is_rendered(resources: list[dict[str, Any]], version: str) -> None:
    schemas = pytest.importorskip("kubernetes_validate")
    assert resources
    for each in resources:
        if each["kind"] not in NO_SCHEMA:
            schemas.validate(each, version, strict=True)


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("file", kept(), ids=lambda file: file.name)
def test_kubernetes_takes_what_is_kept(file: Path, version: str) -> None:
    schemas = pytest.importorskip("kubernetes_validate")
    for each in yaml.safe_load_all(file.read_text()):
        schemas.validate(each, version, strict=True)


@needs_helm
@pytest.mark.parametrize("file", kept(), ids=lambda file: file.name)
def test_what_is_kept_is_what_helm_renders(file: Path) -> None:
    assert file.read_text() == manifests(*kept()[file]), f"python {Path(__file__).relative_to(ROOT)} makes it again"


def test_no_container_has_more_rights_than_it_needs(resources: list[dict[str, Any]]) -> None:
    for pod in pods(resources):
        shared = pod["securityContext"]
        assert (shared["runAsNonRoot"], shared["runAsUser"], shared["fsGroup"]) == (True, NOBODY, NOBODY)
        assert shared["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for each in containers(pod):
            own = each["securityContext"]
            assert own["readOnlyRootFilesystem"] is True
            assert own["allowPrivilegeEscalation"] is False
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in each["resources"]["limits"]
            name, _, tag = each["image"].partition(":")
            assert tag == VERSION or not name.startswith("sidemeter") or "@sha256" in name
            assert tag not in {"", "latest"}


def test_every_mount_has_its_volume_and_every_volume_is_mounted(resources: list[dict[str, Any]]) -> None:
    for workload in resources:
        for pod in pods([workload]):
            claims = {each["metadata"]["name"] for each in workload["spec"].get("volumeClaimTemplates", [])}
            mounted = {mount["name"] for each in containers(pod) for mount in each["volumeMounts"]}
            assert mounted == claims | {each["name"] for each in pod["volumes"]}


def test_the_control_plane_takes_its_settings_and_answers_its_probes(resources: list[dict[str, Any]]) -> None:
    for container in (each for pod in pods(resources) for each in containers(pod) if each["name"] == "control-plane"):
        settings = settings_of("sidemeter-control", environ(container))
        assert isinstance(settings, ControlSettings)
        _, port = host_and_port(settings.listen)
        assert container["ports"] == [{"name": "http", "containerPort": port}]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            asked = container[probe]["httpGet"]
            assert asked["path"] in paths()
            assert (asked["port"], asked["scheme"]) == ("http", "HTTPS" if settings.tls_cert else "HTTP")
        mounts = {each["mountPath"] for each in container["volumeMounts"]}
        if settings.tls_cert and settings.tls_key:
            assert {str(Path(settings.tls_cert).parent), str(Path(settings.tls_key).parent)} <= mounts
        if settings.database.startswith("sqlite:///"):
            assert any(Path(settings.database.removeprefix("sqlite:///")).is_relative_to(each) for each in mounts)


def test_what_is_scraped_is_there(resources: list[dict[str, Any]]) -> None:
    for each in resources:
        if each["kind"] == "ServiceMonitor":
            assert {endpoint["path"] for endpoint in each["spec"]["endpoints"]} <= paths()


def test_everything_points_at_the_pods(resources: list[dict[str, Any]]) -> None:
    """Service, policy, budget and monitor select labels that are there."""
    labels = {key: value for each in resources for key, value in _labels(each).items()}
    for each in resources:
        spec = each["spec"]
        selected = spec.get("selector") or spec.get("podSelector") or {}
        for key, value in selected.get("matchLabels", selected).items():
            assert labels[key] == value


def _labels(workload: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = workload["spec"].get("template", {}).get("metadata", {}).get("labels", {})
    return found


def test_the_agent_is_a_native_sidecar_that_takes_its_settings(resources: list[dict[str, Any]]) -> None:
    for pod in pods(resources):
        for agent in pod.get("initContainers", []):
            settings = settings_of("sidemeter", environ(agent))
            assert isinstance(settings, AgentSettings)
            assert agent["restartPolicy"] == "Always"
            for probe in ("startupProbe", "livenessProbe"):
                check_command(agent[probe]["exec"]["command"])
            (service,) = pod["containers"]
            assert environ(service)["SIDEMETER_SOCKET"] == str(settings.socket)
            assert agent["securityContext"]["runAsUser"] == pod["securityContext"]["runAsUser"]
            volumes = {each["name"]: each for each in pod["volumes"]}
            mounts = {each["mountPath"]: volumes[each["name"]] for each in agent["volumeMounts"]}
            assert mounts[str(settings.cell_dir)]["emptyDir"]["medium"] == "Memory"
            assert mounts[str(settings.socket.parent if settings.socket else None)]["name"] in {
                each["name"] for each in service["volumeMounts"]
            }
            assert settings.data_dir.parent in map(Path, mounts)
            assert pod["terminationGracePeriodSeconds"] > settings.drain_s


@needs_helm
@pytest.mark.parametrize(
    ("chart", "values", "says"),
    [
        (CONTROL, {"replicas": 2}, "replicas: must be 1 with database.kind sqlite, and is 2"),
        (CONTROL, {"strategy": "BlueGreen"} | POSTGRES, "strategy"),
        (CONTROL, {"database": {"kind": "postgresql"}}, "database.existingSecret: must name a secret"),
        (CONTROL, {"database": {"kind": "mysql"}}, "database/kind"),
        (CONTROL, {"ingress": {"enabled": True}}, "ingress.host: must be set"),
        (CONTROL, {"serviceMonitor": {"enabled": True}}, "serviceMonitor.existingSecret: must name a secret"),
        (CONTROL, {"settings": {"listen": "0.0.0.0:80"}}, "invalid propertyName 'listen'"),
        (CONTROL, {"image": {"digest": "sha256:1"}}, "image/digest"),
        (CONTROL, {"replica": 1}, "replica"),
        (EXAMPLE, {"agent": {"service": ""}}, "service: must be set"),
        (EXAMPLE, {"agent": {"controlPlane": ""}}, "controlPlane: must be the URL"),
        (EXAMPLE, {"agent": {"existingSecret": ""}}, "existingSecret: must name a secret"),
    ],
)
def test_what_cannot_work_is_refused_before_it_is_installed(chart: Path, values: dict[str, Any], says: str) -> None:
    done = helm(chart, values)
    assert done.returncode != 0
    assert says in done.stderr


@needs_helm
@pytest.mark.parametrize(
    ("values", "strategy"),
    [
        ({}, "Recreate"),
        ({"replicas": 3}, "RollingUpdate"),
        ({"replicas": 3, "strategy": "Recreate"}, "Recreate"),
        ({"strategy": "RollingUpdate"}, "RollingUpdate"),
    ],
)
def test_several_are_replaced_one_after_the_other_unless_they_are_to_go_together(
    values: dict[str, Any], strategy: str
) -> None:
    rendered = yaml.safe_load_all(manifests(CONTROL, POSTGRES | values))
    (workload,) = [each for each in rendered if each["kind"] == "Deployment"]
    assert workload["spec"]["replicas"] == values.get("replicas", 1)
    assert workload["spec"]["strategy"]["type"] == strategy
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    assert ("lifecycle" in container) == (strategy == "RollingUpdate")


def test_every_setting_can_be_given_but_those_that_the_chart_gives() -> None:
    schema = json.loads((CONTROL / "values.schema.json").read_text())
    given = {"database", "listen", "admin_key", "tls_cert", "tls_key"}
    assert set(schema["properties"]["settings"]["propertyNames"]["enum"]) == (
        ControlSettings.__dataclass_fields__.keys() - given
    )


def test_every_value_is_in_the_schema_and_the_other_way_round() -> None:
    schema = json.loads((CONTROL / "values.schema.json").read_text())
    values = yaml.safe_load((CONTROL / "values.yaml").read_text())
    assert values.keys() == schema["properties"].keys() - {"global"}


@pytest.mark.parametrize("chart", ["sidemeter-control", "sidemeter-agent", "example-service"])
def test_charts_have_the_version_of_the_programs(chart: str) -> None:
    about = yaml.safe_load((HELM / chart / "Chart.yaml").read_text())
    assert about["version"] == VERSION
    assert about.get("appVersion", VERSION) == VERSION
    assert about["name"] == chart
    for each in about.get("dependencies", []):
        assert each["version"] == VERSION
        assert (HELM / chart / each["repository"].removeprefix("file://") / "Chart.yaml").exists()


if __name__ == "__main__":
    for path, case in kept().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(manifests(*case))
