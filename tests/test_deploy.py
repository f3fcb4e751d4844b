"""The files for several machines hold together, and say what agentd understands."""

import json
import re
import subprocess
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from agentd.ops.metrics import Metrics
from config.files import load
from tests import programs

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
NODES = ["voice1", "voice2"]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
MANIFESTS = ["config.yaml", "redis.yaml", "agentd.yaml"]
ENV = {"AGENTD_NODE": "voice1", "REDIS_URL": "redis://redis:6379/0", "LISTEN_PASSWORD": "a", "REST_KEY": "b"}


def manifests() -> dict[tuple[str, str], Any]:
    found = [part for name in MANIFESTS for part in yaml.safe_load_all((DEPLOY / "kubernetes" / name).read_text())]
    return {(part["kind"], part["metadata"]["name"]): part for part in found}


def seconds(text: str) -> int:
    minutes, rest = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", text).groups()  # type: ignore[union-attr]
    return 60 * int(minutes or 0) + int(rest or 0)


def test_the_compose_file_is_as_the_specification_wants_it() -> None:
    schema = resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    jsonschema.validate(COMPOSE, json.loads(schema.read_text()))


def test_every_node_is_behind_haproxy_and_is_scraped() -> None:
    nodes = [name for name, service in COMPOSE["services"].items() if service.get("image") == "agentd"]
    proxy = (DEPLOY / "haproxy.cfg").read_text()
    named = re.findall(r"^ +server (\w+) ", proxy, re.M)
    scraped = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["scrape_configs"][0]["static_configs"][0][
        "targets"
    ]
    assert nodes == NODES and named == NODES * 3 and scraped == [f"{name}:8080" for name in nodes]
    for name in nodes:
        service = COMPOSE["services"][name]
        assert service["environment"]["AGENTD_NODE"] == name and "ports" not in service
        assert f"presetenv {name.upper()} {name}:8080" in proxy


def test_haproxy_takes_its_configuration() -> None:
    command = [programs.program("haproxy"), "-c", "-f", str(DEPLOY / "haproxy.cfg")]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


def test_the_nodes_configuration_is_understood_and_gives_calls_time_to_end() -> None:
    config = load(DEPLOY / "etc" / "agentd.yaml", env=ENV)
    assert config.server.process.node == "voice1" and config.server.redis is not None
    grace = seconds(COMPOSE["services"]["voice1"]["stop_grace_period"])
    assert grace > config.server.process.drain_seconds


def test_what_is_mounted_is_there() -> None:
    for service in COMPOSE["services"].values():
        for mounted in service.get("volumes", []):
            source = re.sub(r"\$\{\w+:-(.*)\}", r"\1", mounted.rsplit(":", 2 if mounted.endswith(":ro") else 1)[0])
            assert (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]
    assert (ROOT / COMPOSE["services"]["voice1"]["build"]["dockerfile"]).exists()


def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    text = (DEPLOY / "grafana" / "dashboards" / "agentd.json").read_text()
    board = json.loads(text)
    known = {
        f"{family.name}{suffix}"
        for family in Metrics().registry.collect()
        for suffix in {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}.get(family.type, [""])
    }
    asked = set(re.findall(r"\bagentd_\w+", text))
    assert asked and asked <= known
    source = yaml.safe_load((DEPLOY / "grafana" / "datasources" / "prometheus.yml").read_text())["datasources"][0]
    panels = board["panels"]
    assert {panel["datasource"]["uid"] for panel in panels} == {source["uid"]}
    assert (
        len({panel["id"] for panel in panels}) == len({json.dumps(panel["gridPos"]) for panel in panels}) == len(panels)
    )


# Kubernetes ----------------------------------------------------------------------------------------------


def test_the_manifests_are_as_kubernetes_wants_them() -> None:
    # Not among the requirements: its schemas are 17,000 files.
    validate = pytest.importorskip(
        "kubernetes_validate", reason="needs kubernetes-validate (pip)", exc_type=ImportError
    )
    for manifest in manifests().values():
        validate.validate(manifest, "1.30", strict=True)


def test_the_manifests_hold_together() -> None:
    found = manifests()
    pod = found["Deployment", "agentd"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    labels = pod["metadata"]["labels"]
    assert found["Deployment", "agentd"]["spec"]["selector"]["matchLabels"] == labels
    assert found["Service", "agentd"]["spec"]["selector"] == labels
    assert found["PodDisruptionBudget", "agentd"]["spec"]["selector"]["matchLabels"] == labels
    scaler = found["HorizontalPodAutoscaler", "agentd"]["spec"]
    assert scaler["scaleTargetRef"]["name"] == "agentd"
    assert scaler["metrics"][0]["pods"]["metric"]["name"] in {family.name for family in Metrics().registry.collect()}
    for probe, path in (("readinessProbe", "/healthz"), ("livenessProbe", "/livez")):
        assert container[probe]["httpGet"]["path"] == path
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["spec"]["volumes"]}
    for volume in pod["spec"]["volumes"]:
        if "configMap" in volume:
            assert ("ConfigMap", volume["configMap"]["name"]) in found
    listed = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(MANIFESTS)


def test_a_pods_configuration_is_understood_and_gives_calls_time_to_end(tmp_path: Path) -> None:
    found = manifests()
    given = {**ENV, **found["Secret", "agentd"]["stringData"], "POD_IP": "10.0.0.1"}
    (tmp_path / "agents").mkdir()
    for name, text in found["ConfigMap", "agentd-agents"]["data"].items():
        (tmp_path / "agents" / name).write_text(text)
    text = found["ConfigMap", "agentd"]["data"]["agentd.yaml"]
    (tmp_path / "agentd.yaml").write_text(text.replace("/etc/agentd-agents", str(tmp_path / "agents")))
    config = load(tmp_path / "agentd.yaml", env=given)
    assert config.server.redis is not None and config.server.access.names_somebody
    assert "front-desk" in config.agents
    (container,) = (pod := found["Deployment", "agentd"]["spec"]["template"]["spec"])["containers"]
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > config.server.process.drain_seconds + pause
