"""The files of deploy/ fit their schemas, and keep the rules: nobody's root, nothing writable, nothing open, no secret inside."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
KUBERNETES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
OWN_KINDS = {"DaskCluster", "DaskAutoscaler"}
"""Of the Dask operator: their schemas are not in Kubernetes."""


def documents() -> list[tuple[str, dict[str, Any]]]:
    found = [(path.name, document) for path in KUBERNETES for document in yaml.safe_load_all(path.read_text())]
    return [(f"{name}:{document['kind']}/{document['metadata'].get('name', 'unnamed')}", document) for name, document in found]


def pod_specs(document: Any) -> Iterator[dict[str, Any]]:
    """Yield every pod specification inside a document, wherever it is."""
    if isinstance(document, dict):
        if isinstance(document.get("containers"), list):
            yield document
        for value in document.values():
            yield from pod_specs(value)
    elif isinstance(document, list):
        for value in document:
            yield from pod_specs(value)


DOCUMENTS = documents()
PODS = [(name, pod) for name, document in DOCUMENTS for pod in pod_specs(document)]


@pytest.mark.parametrize("document", [d for _, d in DOCUMENTS], ids=[name for name, _ in DOCUMENTS])
def test_kubernetes_knows_every_field(document):
    import kubernetes_validate

    if document["kind"] in OWN_KINDS:
        for pod in pod_specs(document):
            kubernetes_validate.validate(
                {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod}, "1.29", strict=True
            )
        return
    kubernetes_validate.validate(document, "1.29", strict=True)


def test_compose_file_fits_its_specification():
    checker = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(DEPLOY / "compose.yaml")]
    done = subprocess.run(checker, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_there_are_pods_and_services_to_check():
    assert len(PODS) == 5
    assert {"database", "prefect", "scheduler", "dask-worker", "worker", "s3", "reader", "gate"} <= SERVICES.keys()


@pytest.mark.parametrize("pod", [p for _, p in PODS], ids=[name for name, _ in PODS])
def test_pod_is_nobody_writes_nothing_and_has_limits(pod):
    whole = pod["securityContext"]
    assert whole["runAsNonRoot"] is True
    assert whole["runAsUser"] == 10001
    assert whole["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert pod["terminationGracePeriodSeconds"] >= 30
    for volume in pod["volumes"]:
        assert "hostPath" not in volume
    for container in pod["containers"]:
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False
        assert own["readOnlyRootFilesystem"] is True
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert "privileged" not in own
        assert {"cpu", "memory"} <= container["resources"]["limits"].keys()
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
        assert not container["image"].endswith(":latest")
        assert ":" in container["image"]
        mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
        assert all(mounts[name]["readOnly"] is True for name in ("archive", "tls") if name in mounts)


def test_secrets_are_named_and_never_written():
    for name, pod in PODS:
        for container in pod["containers"]:
            for variable in container.get("env", []):
                if re.search(r"URL|KEY|PASSWORD|AUTH|TOKEN", variable["name"]) and "TLS" not in variable["name"]:
                    assert "secretKeyRef" in variable["valueFrom"], f"{name}: {variable['name']}"
    assert all(document["kind"] != "Secret" for _, document in DOCUMENTS)
    for path in [path for path in DEPLOY.rglob("*") if path.is_file()]:
        text = path.read_text()
        assert "PRIVATE KEY" not in text, path
        assert not re.search(r"(?i)(password|secret|auth_string)\s*[:=]\s*['\"]?[a-z0-9]{8,}['\"]?\s*$", text, re.M), path


def test_network_is_shut_but_for_what_is_named():
    policies = {
        document["metadata"]["name"]: document["spec"] for _, document in DOCUMENTS if document["kind"] == "NetworkPolicy"
    }
    shut = policies.pop("nothing")
    assert shut == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for name, policy in policies.items():
        for rule in [*policy.get("ingress", []), *policy.get("egress", [])]:
            assert rule.get("from") or rule.get("to"), f"{name} opens to everybody"
        assert "ipBlock" not in str(policy)
    nights = [pod for name, pod in PODS if "job" in name.lower()]
    assert len(nights) == 2
    assert "0.0.0.0" not in "".join(path.read_text() for path in KUBERNETES)


def test_one_night_at_a_time_on_kubernetes():
    (night,) = [document for _, document in DOCUMENTS if document["kind"] == "CronJob"]
    assert night["spec"]["concurrencyPolicy"] == "Forbid"
    assert night["spec"]["jobTemplate"]["spec"]["template"]["spec"]["restartPolicy"] == "Never"


@pytest.mark.parametrize("name", SERVICES)
def test_service_is_nobody_writes_nothing_and_has_limits(name):
    service = SERVICES[name]
    assert service["user"].split(":")[0] not in ("", "0", "root")
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "mem_limit" in service
    assert "privileged" not in service
    assert not service["image"].endswith(":latest")
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:"), f"{name} is published beyond this machine: {port}"
    for volume in service.get("volumes", []):
        if "/data/archive" in volume or (volume.startswith("secrets:") and name != "secrets"):
            assert volume.endswith(":ro")


def test_only_what_has_a_page_has_a_way_out_and_secrets_stand_in_no_variable():
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    assert {name for name, service in SERVICES.items() if "ports" in service} == {"prefect", "scheduler", "gate"}
    for name, service in SERVICES.items():
        for key, value in service.get("environment", {}).items():
            is_secret = re.search(r"PASSWORD|AUTH|SECRET", key) and not key.endswith("_FILE")
            assert not is_secret, f"{name}: {key}={value}"


def test_dask_is_encrypted_wherever_it_has_a_network():
    assert "--protocol=tls" in SERVICES["scheduler"]["entrypoint"]
    assert SERVICES["worker"]["environment"]["ECGBATCH_DASK"].startswith("tls://")
    (cluster,) = [document for _, document in DOCUMENTS if document["kind"] == "DaskCluster"]
    for pod in pod_specs(cluster):
        (container,) = pod["containers"]
        assert {"--tls-ca-file=/secrets/ca.pem", "--tls-cert=/secrets/cert.pem"} <= set(container["args"])
    assert "require_encryption=True" in (DEPLOY / "slurm" / "cluster.py").read_text()


def dask_commands(what: str) -> list[list[str]]:
    """Every command line of a Dask scheduler or worker in compose.yaml and kubernetes/."""
    found = [service["entrypoint"] for service in SERVICES.values() if service.get("entrypoint")]
    found += [[*c["command"], *c["args"]] for _, pod in PODS for c in pod["containers"] if "command" in c]
    return [words for words in found if words[:2] == ["dask", what]]


def test_dask_worker_answers_nobody_but_its_own_machine_by_http():
    # A worker serves HTTP even with --no-dashboard, on every address; a scheduler's page is published or named by a policy.
    workers, schedulers = dask_commands("worker"), dask_commands("scheduler")
    assert (len(workers), len(schedulers)) == (2, 2)
    assert all("--dashboard-address=127.0.0.1:0" in words for words in workers)
    assert all("--dashboard-address=:8787" in words for words in schedulers)
    slurm = (DEPLOY / "slurm" / "cluster.py").read_text()
    for text in [slurm, *((DEPLOY / name).read_text() for name in ("compose.yaml", "kubernetes/dask-cluster.yaml"))]:
        assert "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED" in text
    assert '"--dashboard-address", "127.0.0.1:0"' in slurm
    assert '"dashboard_address": "127.0.0.1:8787"' in slurm


def test_dask_can_read_every_span_of_time_it_is_given():
    # A scheduler that cannot ends as it starts: "10min" is none, to Dask.
    from dask.utils import parse_timedelta

    told = {key: value for service in SERVICES.values() for key, value in service.get("environment", {}).items()}
    told |= {v["name"]: v.get("value", "") for _, pod in PODS for c in pod["containers"] for v in c.get("env", [])}
    spans = {key: value for key, value in told.items() if re.search(r"^DASK.*(TIMEOUT|INTERVAL)$", key)}
    assert len(spans) == 2
    spans["slurm"] = re.search(
        r'"distributed.scheduler.no-workers-timeout": "(\w+)"', (DEPLOY / "slurm" / "cluster.py").read_text()
    )[1]
    assert all(parse_timedelta(value) > 0 for value in spans.values())


def test_fresh_volumes_belong_to_who_writes_them_with_any_engine():
    # Docker takes a volume's owner from the image's folder below it; podman has no uid= for a tmpfs, and no log driver "local".
    made = (DEPLOY / "Dockerfile").read_text()
    assert SERVICES["secrets"]["image"] == SERVICES["worker"]["image"]
    for volume in SERVICES["secrets"]["volumes"][:2]:
        assert re.search(rf"install -d -o 10001 .*{volume.split(':')[1]}\b", made), volume
    for service in SERVICES.values():
        assert not [one for one in service.get("tmpfs", []) if "uid=" in one]
        assert service.get("logging", {}).get("driver", "json-file") == "json-file"


def test_prefect_is_asked_for_a_password_and_sends_nothing_home():
    (command,) = SERVICES["prefect"]["command"]
    assert 'PREFECT_SERVER_API_AUTH_STRING="$$(cat /secrets/prefect_auth)"' in command
    assert 'PREFECT_API_AUTH_STRING="$$(cat /secrets/prefect_auth)"' in SERVICES["worker"]["command"][0]
    assert SERVICES["prefect"]["environment"]["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] == "http://127.0.0.1:4200"
    assert SERVICES["prefect"]["environment"]["PREFECT_SERVER_UI_STATIC_DIRECTORY"].startswith("/tmp/")  # the root is read-only
    image = (DEPLOY / "Dockerfile").read_text()
    assert "DO_NOT_TRACK=1" in image
    assert "PREFECT_SERVER_ANALYTICS_ENABLED=false" in image
    assert "USER 10001" in image


def test_secrets_are_made_once_random_and_for_their_owner(tmp_path):
    folder, other = tmp_path / "one", tmp_path / "two"
    for target in (folder, other, folder):
        before = {path.name: path.read_bytes() for path in folder.glob("*")}
        subprocess.run(["sh", str(DEPLOY / "make_secrets.sh"), str(target)], check=True, capture_output=True)
    assert {path.name: path.read_bytes() for path in folder.glob("*")} == before
    names = {"postgres_password", "prefect_auth", "s3_secret", "reader_password", "readers", "ca.pem", "cert.pem", "key.pem"}
    assert {path.name for path in folder.iterdir()} == names
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert modes == dict.fromkeys(names, 0o600) | {"postgres_password": 0o640, "readers": 0o640}
    assert folder.stat().st_mode & 0o777 == 0o710
    assert all((folder / name).read_bytes() != (other / name).read_bytes() for name in names)
    verified = ["openssl", "verify", "-CAfile", str(folder / "ca.pem"), str(folder / "cert.pem")]
    assert subprocess.run(verified, capture_output=True, check=False).returncode == 0


def test_scripts_are_scripts():
    for path in DEPLOY.rglob("*.sh"):
        subprocess.run(["sh", "-n", str(path)], check=True)
    subprocess.run(["bash", "-n", str(DEPLOY / "slurm" / "ecgbatch.sbatch")], check=True)
    compile((DEPLOY / "slurm" / "cluster.py").read_text(), "cluster.py", "exec")


ENGINE_OF_TWO_NIGHTS = """#!/bin/sh
echo "$@" >> "$TOLD/calls"
case "$*" in *"status /data/work --json"*) ;; *) exit 0 ;; esac
if [ -e "$TOLD/looked" ]; then echo '{"last_run": {"outcome": "ok", "records": {"scored": 4, "waiting": 0}}}'
else echo '{"last_run": {"outcome": "ok", "records": {"scored": 0, "waiting": 4}}}'; fi
touch "$TOLD/looked"
"""


def test_compose_test_waits_for_a_night_that_scored_and_takes_down_nobody_elses_volumes(tmp_path):
    engine = tmp_path / "engine"
    engine.write_text(ENGINE_OF_TWO_NIGHTS)
    engine.chmod(0o755)
    environment = os.environ | {"TMPDIR": str(tmp_path), "TOLD": str(tmp_path), "EVERY_S": "1", "MOST_S": "5"}
    environment |= {"ENGINE": str(engine), "COMPOSE": str(engine)}
    subprocess.run(["sh", str(DEPLOY / "compose_test.sh")], env=environment, check=True, capture_output=True)
    calls = (tmp_path / "calls").read_text().splitlines()
    assert sum(call.endswith("--json") for call in calls) == 2  # the first night was well, and scored nothing
    (down,) = [call for call in calls if " down -v" in call]
    assert down.startswith("-p ")
    assert down.split()[1] != COMPOSE["name"]


def test_every_command_in_a_deployment_exists():
    from tests.test_docs import COMMANDS, options_of

    ours = [container for name, pod in PODS for container in pod["containers"] if "DaskCluster" not in name]
    ours = [container["args"] for container in ours if container["image"].startswith("ecgbatch:")]
    assert len(ours) == 3
    for arguments in [*ours, SERVICES["reader"]["command"]]:
        assert arguments[0] in COMMANDS
        assert set(re.findall(r"--[a-z-]+", " ".join(arguments))) <= options_of(arguments[0])
    command = SERVICES["worker"]["command"][0]
    assert set(re.findall(r"--[a-z-]+", command)) <= options_of("schedule")


def test_the_server_of_pages_answers_nobody_but_the_proxy_that_asks_who_is_there():
    reader, gate = SERVICES["reader"], SERVICES["gate"]
    address = gate["networks"]["readers"]["ipv4_address"]
    assert f"--trusted-proxy={address}" in reader["command"]
    assert "--reader-header=X-Forwarded-User" in reader["command"]
    assert (reader["networks"], "ports" in reader) == (["readers"], False)
    assert COMPOSE["networks"]["readers"]["internal"] is True
    conf = (DEPLOY / "reader.conf").read_text()
    assert "proxy_set_header X-Forwarded-User $remote_user;" in conf  # one that a browser sends is dropped
    assert "auth_basic_user_file /secrets/readers;" in conf
    (pod,) = [pod for name, pod in PODS if name == "reader.yaml:Deployment/reader"]
    server, proxy = pod["containers"]
    assert "--trusted-proxy=127.0.0.1" in server["args"]
    assert not [word for word in server["args"] if word.startswith("--address")]  # loopback of the pod
    assert "ports" not in server
    assert {"--upstream=http://127.0.0.1:8417/", "--pass-user-headers=true"} <= set(proxy["args"])
