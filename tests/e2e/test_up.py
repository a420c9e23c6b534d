"""`montemq up`: one command, a whole installation, and nothing left of it afterwards."""

import json
import os
import re
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ops.child_process import descendants
from protocol.settings import broker_from_url
from tests.conftest import require_rabbitmq
from tests.support.prometheus import asked, names, read, require_prometheus, value
from tests.support.stack_jobs import pi
from tests.support.stack_processes import Ended, Program, Service, environment, eventually
from tests.support.stack_site import Site

READY_SECONDS = 90.0
"""Everything at once takes long where many tests share few cores."""

EVENS = """
from protocol.model import GeneratorModel

class Evens(GeneratorModel):
    name = "evens"
    outputs = ("even",)

    def sample(self, rng, n):
        return 1.0 - rng.integers(2, size=(n, 1))
"""


class Up:
    """A running `montemq up` with a temporary directory of its own."""

    def __init__(self, folder: Path, temporary: str, *options: str) -> None:
        self.temporary = Path(temporary)
        env = environment(TMPDIR=temporary)
        words = ("up", "--consumers", "2", "--slots", "1", *options)
        self.service = Service(words, folder, env)
        self.ready = self.service.ready(READY_SECONDS)
        self.site = Site(broker_from_url(self.ready["amqp_url"]), folder)

    def now(self) -> dict[str, Any]:
        """Return the ready file as it is now: it follows what was started again."""
        content: dict[str, Any] = json.loads(self.service.ready_file.read_text())
        return content

    def healed(self, part: str, dead: int) -> dict[str, Any]:
        self.service.says(f"{part} had died and was started again")
        eventually(lambda: str(dead) not in str(self.now()["pids"]), "the ready file is renewed")
        return self.now()

    def answers(self, run: str) -> None:
        job = pi(run, blocks=64)
        ended = self.site.run(job).wait()
        assert (ended.code, ended.json["digest"]) == (0, job.digest)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    require_rabbitmq()
    # Short: a path of a Unix socket has 107 bytes at most.
    temporary = tempfile.mkdtemp(prefix="mc-")
    folder = tmp_path_factory.mktemp("up")
    (folder / "evens.py").write_text(EVENS, encoding="utf-8")
    running = Up(folder, temporary, "--model-file", "evens.py:Evens")
    with running.site:
        yield running
    running.service.send(signal.SIGTERM)
    running.service.process.wait(30)
    shutil.rmtree(temporary)


def test_the_ready_file_says_where_everything_is(up: Up) -> None:
    ready = up.now()
    assert ready.keys() == {"amqp_url", "http_url", "pids"}
    pids = ready["pids"]
    assert pids.keys() == {"broker", "aggregator", "producer", "consumer"}
    assert len(pids["consumer"]) == 2
    children = {process.pid for process in descendants(up.service.pid)}
    assert {pids["broker"], pids["aggregator"], pids["producer"], *pids["consumer"]} <= children
    assert up.service.ready_file.stat().st_mode & 0o777 == 0o600
    assert up.service.http("/readyz")[0] == 200
    assert up.service.out.splitlines() == [f"AMQP {ready['amqp_url']}", f"HTTP {ready['http_url']}"]
    assert ready["http_url"] not in up.service.err
    status = up.site.command("status", "--json").json
    assert (status["consumers"], status["slots"]) == (2, 2)
    up.answers("ready")


def test_a_killed_consumer_is_started_again(up: Up) -> None:
    victim, other = up.now()["pids"]["consumer"]
    os.kill(victim, signal.SIGKILL)
    pids = up.healed("consumer-0", victim)["pids"]
    assert other in pids["consumer"]
    assert len(pids["consumer"]) == 2
    up.answers("consumer-healed")


def test_its_consumers_have_the_model_file_before_and_after_they_were_started_again(up: Up) -> None:
    words = ("run", "evens", "--model-file", "evens.py:Evens", "--seed", "1", "--json")
    first = up.site.command(*words).json
    assert abs(first["cells"][0]["outputs"]["even"]["mean"] - 0.5) < 4.5 * 0.5 / 2**10
    for victim in up.now()["pids"]["consumer"]:
        os.kill(victim, signal.SIGKILL)
        up.healed("", victim)
    assert up.site.command(*words).json["digest"] == first["digest"]


def test_a_killed_aggregator_is_started_again_at_the_same_address(up: Up) -> None:
    before = up.now()
    os.kill(before["pids"]["aggregator"], signal.SIGKILL)
    after = up.healed("aggregator", before["pids"]["aggregator"])
    assert after["http_url"] == before["http_url"]
    # It still knows the run from before.
    up.answers("aggregator-healed")
    assert up.site.command("status", "ready").code == 0


def test_a_killed_producer_service_is_started_again_and_schedules_what_is_detached(up: Up) -> None:
    victim = up.now()["pids"]["producer"]
    os.kill(victim, signal.SIGKILL)
    up.healed("producer", victim)
    job = pi("producer-healed", blocks=64)
    words = ("run", job.file(up.site.folder), "--detach", "--quiet")
    assert up.site.command(*words).out == f"{job.run}\n"
    ended = up.site.command("wait", job.run, "--json")
    assert (ended.code, ended.json["digest"]) == (0, job.digest)


def test_a_killed_broker_is_started_again_at_the_same_address(up: Up) -> None:
    before = up.now()
    os.kill(before["pids"]["broker"], signal.SIGKILL)
    after = up.healed("broker", before["pids"]["broker"])
    assert after["amqp_url"] == before["amqp_url"]
    eventually(lambda: up.service.http("/readyz")[0] == 200, "the aggregator is active again")
    up.answers("broker-healed")


def test_ctrl_c_leaves_no_process_and_no_file_even_of_a_killed_consumer(tmp_path: Path) -> None:
    require_rabbitmq()
    with tempfile.TemporaryDirectory(prefix="mc-") as temporary:
        up = Up(tmp_path, temporary)
        with up.site:
            victim = up.ready["pids"]["consumer"][0]
            os.kill(victim, signal.SIGKILL)  # whatever it could not clear away is cleared away too
            up.healed("consumer-0", victim)
            everything = descendants(up.service.pid)
            assert len(everything) > 6
            assert list(Path(temporary).iterdir())
            up.service.send(signal.SIGINT)
            ended = up.service.wait(30)
            assert ended.code == 0
            assert not [process for process in everything if process.alive()]
            assert list(Path(temporary).iterdir()) == []
            assert not up.service.ready_file.exists()


def test_with_monitoring_a_prometheus_watches_broker_and_aggregator_and_ends_with_them(
    tmp_path: Path,
) -> None:
    require_rabbitmq()
    require_prometheus()
    with tempfile.TemporaryDirectory(prefix="mc-") as temporary:
        up = Up(tmp_path, temporary, "--monitoring", "--data-dir", "data")
        with up.site:
            url, victim = up.ready["prometheus_url"], up.ready["pids"]["prometheus"]
            assert up.service.out.splitlines()[2:] == [f"Prometheus {url}"]
            jobs = {"montemq", "rabbitmq", "rabbitmq_queues"}
            eventually(lambda: jobs == healthy(url), "everything is scraped")
            assert value(url, "montemq_aggregator_active") == 1
            assert value(url, 'rabbitmq_detailed_queue_consumers{queue="mc.results.q"}') == 1
            assert names(url, "alert") == set(re.findall(r"alert: (\w+)", read("alerts.yml")))
            assert names(url, "record") == set(re.findall(r"record: (\S+)", read("rules.yml")))
            assert runbook_links(url)[0] == f"{up.ready['http_url']}/runbook#runmissed"
            assert '<h2 id="runmissed">' in up.service.http("/runbook")[1]
            os.kill(victim, signal.SIGKILL)
            pids = up.healed("Prometheus", victim)["pids"]
            assert value(url, "max_over_time(montemq_aggregator_active[1h])") == 1
            everything = descendants(up.service.pid)
            assert pids["prometheus"] in {process.pid for process in everything}
            up.service.send(signal.SIGINT)
            assert up.service.wait(30).code == 0
            assert not [process for process in everything if process.alive()]
            assert list(Path(temporary).iterdir()) == []


def runbook_links(url: str) -> list[str]:
    """Return where the alerts of a Prometheus lead to."""
    groups = asked(url, "rules", type="alert")["groups"]
    return [rule["annotations"]["runbook_url"] for group in groups for rule in group["rules"]]


def healthy(url: str) -> set[str]:
    """Return the jobs whose targets answered, in the words of a Prometheus."""
    targets = asked(url, "targets")["activeTargets"]
    return {target["labels"]["job"] for target in targets if target["health"] == "up"}


def test_monitoring_without_prometheus_is_said_and_everything_else_starts(tmp_path: Path) -> None:
    require_rabbitmq()
    bare = tmp_path / "bin"
    bare.mkdir()
    for folder in os.environ["PATH"].split(os.pathsep)[::-1]:
        for program in Path(folder).glob("*"):
            (bare / program.name).unlink(missing_ok=True)
            (bare / program.name).symlink_to(program)
    (bare / "prometheus").unlink(missing_ok=True)
    env = environment(PATH=str(bare))
    words = ("up", "--consumers", "0", "--monitoring", "--data-dir", "data")
    service = Service(words, tmp_path, env)
    assert service.ready(READY_SECONDS).keys() == {"amqp_url", "http_url", "pids"}
    assert service.err.splitlines()[0] == (
        "montemq: Prometheus is not installed, so there is no monitoring: install it with "
        "`apt-get install prometheus` or from https://prometheus.io/download"
    )
    service.send(signal.SIGTERM)
    assert service.wait(30).code == 0


def test_an_http_address_that_is_taken_is_wrong_usage_and_nothing_is_started(
    tmp_path: Path,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = Program(("up", "--http", address), tmp_path, environment(), module="ops.cli").wait()
    assert ended.code == 2
    assert ended.err == (
        f"montemq: --http = '{address}' cannot be listened on: Address already in use\n"
    )
    assert ended.out == ""


def test_a_service_that_does_not_start_ends_it_with_the_same_exit_code(tmp_path: Path) -> None:
    require_rabbitmq()
    (tmp_path / "data" / "store.sqlite").mkdir(parents=True)
    words = ("up", "--consumers", "0", "--data-dir", "data")
    ended = Program(words, tmp_path, environment(), module="ops.cli").wait()
    assert ended.code == 2
    assert "Invalid value for '--store'" in ended.err
    assert ended.err.splitlines()[-1] == (
        "montemq: aggregator did not start (exit code 2): it has said why on stderr"
    )


@pytest.mark.parametrize("words", [["--help"], ["--version"], []])
def test_help_imports_nothing_heavy(tmp_path: Path, words: list[str]) -> None:
    script = tmp_path / "asked.py"
    script.write_text(
        "import sys\n"
        "import ops.cli\n"
        f"sys.argv[1:] = {words}\n"
        "try:\n"
        "    ops.cli.main()\n"
        "finally:\n"
        "    print(' '.join(sys.modules), file=sys.stderr)\n",
        encoding="utf-8",
    )
    env = environment() | {"PYTHONPATH": f"{environment()['PYTHONPATH']}{os.pathsep}{tmp_path}"}
    ended: Ended = Program((), tmp_path, env, module="asked").wait()
    loaded = set(ended.err.splitlines()[-1].split())
    assert "ops.cli" in loaded
    heavy = {"numpy", "pydantic", "aio_pika", "aiormq", "pika", "aiohttp", "rich", "msgpack"}
    assert loaded & heavy == set()
    assert ended.code in {0, 2}
