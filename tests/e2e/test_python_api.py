"""The Python API against real services: what a program gets, and what its end leaves behind."""

import asyncio
import doctest
import gc
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import producer
from ops.private_broker import PrivateBroker
from producer import AsyncClient, Client, Run, RunState, Snapshot
from producer.runfile import Submission
from protocol.errors import BrokerUnreachableError, TopologyMissingError
from protocol.settings import AMQP_URL_VARIABLE
from tests.support.real_broker import reset
from tests.support.stack_jobs import GateJob, gate, pi
from tests.support.stack_processes import environment, eventually
from tests.support.stack_proxy import Proxy, proxy
from tests.support.stack_site import Site

SECONDS = 40.0
CLOSED_FROM = 32
"""A checkpoint: no chunk holds blocks from before and behind it, whatever its size."""
SIZE = 512


@pytest.fixture(scope="module")
def warm(private_broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Return an installation with an aggregator and a consumer that all tests here share."""
    reset(private_broker.broker)
    with Site(private_broker.broker, tmp_path_factory.mktemp("site")) as site:
        aggregator, consumer = site.aggregator(), site.consumer(2)
        aggregator.ready()
        consumer.ready()
        yield site


@pytest.fixture
def client(warm: Site, plugin: None) -> Iterator[Client]:
    del plugin
    with Client(warm.broker) as made:
        yield made


@pytest.fixture
def closed(warm: Site, tmp_path: Path, plugin: None) -> Iterator[Callable[[str], GateJob]]:
    """Return how to make runs whose first 32 blocks pass and whose others wait to be let on."""
    del warm, plugin
    made = []

    def make(run: str) -> GateJob:
        (tmp_path / run).mkdir()
        made.append(gate(run, tmp_path / run, closed_from=CLOSED_FROM))
        return made[-1]

    yield make
    for job in made:  # or its slots would wait for ever
        job.open()


def halfway(site: Site, job: GateJob) -> None:
    site.reached(job, CLOSED_FROM / 64)
    eventually(job.waiting, "a block waits")


def sentence(error: BaseException) -> str:
    text = str(error)
    assert "\n" not in text
    return text


def client_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "montemq client"]


def test_a_submitted_run_gives_the_result_that_the_command_line_shows(
    warm: Site, client: Client
) -> None:
    job = pi("api-result", blocks=64)
    run = client.submit("pi", id=job.run, seed=1, sampling={"block_size": 4096},
                        stop={"samples": 64 * 4096})  # fmt: skip
    result = run.result(SECONDS)
    assert (run.run, result.digest) == (job.run, job.digest)
    shown = warm.command("results", job.run, "--json").json
    assert result.model_dump(mode="json") == shown
    assert run.estimates() == result


def test_the_examples_of_the_package_are_true(warm: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(AMQP_URL_VARIABLE, warm.broker.url)
    said: list[str] = []
    (test,) = doctest.DocTestFinder(recurse=False).find(producer)
    outcome = doctest.DocTestRunner().run(test, out=said.append)
    assert outcome.failed == 0, "".join(said)
    assert outcome.attempted > 5


def test_a_timeout_carries_the_estimate_so_far_and_the_run_goes_on(
    warm: Site, client: Client, closed: Callable[[str], GateJob]
) -> None:
    job = closed("api-timeout")
    run = client.submit(job.submission)
    halfway(warm, job)
    with pytest.raises(producer.TimedOutError, match="is not finished after") as late:
        run.result(0.1)
    partial = late.value.partial
    assert partial is not None
    assert (partial.samples, partial.state) == (CLOSED_FROM * SIZE, "running")
    assert partial.cells[0].outputs["mean"].mean == pytest.approx(0.5, abs=0.05)
    job.open()
    assert run.result(SECONDS).digest == job.digest


def test_progress_tells_state_samples_slots_and_the_estimate_so_far(
    warm: Site, client: Client, closed: Callable[[str], GateJob]
) -> None:
    job = closed("api-progress")
    run = client.submit(job.submission)
    halfway(warm, job)
    now = run.progress()
    assert (now.run, now.state, now.ended, now.error) == (job.run, RunState.RUNNING, False, None)
    assert (now.samples, now.total_samples) == (CLOSED_FROM * SIZE, job.samples)
    assert now.share == CLOSED_FROM / 64
    assert (now.slots, now.consumers) == (2, 1)
    assert now.result == run.estimates().model_copy(update={"elapsed_seconds": now.elapsed_seconds})
    assert now.estimate is not None
    assert now.estimate.mean == pytest.approx(0.5, abs=0.05)
    job.open()
    seen = list(run.updates(0.01))
    assert seen[-1].state is RunState.FINISHED
    assert seen[-1].share == 1
    assert all(not snapshot.ended for snapshot in seen[:-1])
    assert [s.samples for s in seen] == sorted(s.samples for s in seen)


def test_progress_of_a_run_with_many_cells_comes_without_the_estimates(client: Client) -> None:
    cells = [{} for _ in range(101)]
    run = client.submit("pi", id="api-cells", seed=1, cells=cells, stop={"samples": 2})
    assert len(run.result(SECONDS).cells) == 101
    now = run.progress()
    assert (now.result, now.estimate, now.share) == (None, None, 1)


def test_cancel_ends_the_run_with_what_is_merged_and_resume_gives_the_undisturbed_digest(
    warm: Site, client: Client, closed: Callable[[str], GateJob]
) -> None:
    job = closed("api-cancel")
    run = client.submit(job.submission)
    halfway(warm, job)
    assert run.cancel() is RunState.CANCELLED
    with pytest.raises(producer.RunCancelledError, match="'api-cancel' was cancelled") as ended:
        run.result(SECONDS)
    assert ended.value.partial is not None
    assert ended.value.partial.samples == CLOSED_FROM * SIZE
    with pytest.raises(producer.RunCancelledError):
        client.submit(job.submission).result(SECONDS)
    resumed = client.resume(job.run)
    job.open()
    assert resumed.result(SECONDS).digest == job.digest
    assert resumed.cancel() is RunState.FINISHED


def test_a_failed_run_raises_its_first_error_and_what_there_is(client: Client) -> None:
    run = client.submit("failing", id="api-failed", seed=1, stop={"samples": 1024})
    with pytest.raises(producer.RunFailedError, match="the market is closed") as failed:
        run.result(SECONDS)
    assert failed.value.partial is not None
    assert failed.value.partial.state == "failed"
    assert "the market is closed" in str(run.progress().error)
    with pytest.raises(producer.RunFailedError, match="the market is closed"):
        client.attach("api-failed").result(SECONDS)


def test_what_is_wrong_is_said_at_once_and_nothing_is_declared(client: Client) -> None:
    pi_run = {"seed": 1, "stop": {"samples": 1024}}
    client.submit("pi", id="api-taken", **pi_run).result(SECONDS)  # type: ignore[arg-type]
    for detach in (False, True):
        with pytest.raises(producer.RunIdTakenError, match="names another definition"):
            client.submit("pi", id="api-taken", seed=2, detach=detach)
        with pytest.raises(TopologyMissingError, match="no queue for pool 'nowhere'"):
            client.submit("pi", id="api-nowhere", pool="nowhere", detach=detach)
        with pytest.raises(producer.UsageError, match="strike = -1"):
            client.submit("asian", id="api-usage", params={"strike": -1.0}, detach=detach)
    for run in ("api-nowhere", "api-usage"):
        with pytest.raises(producer.UnknownRunError, match=run):
            client.attach(run)


@pytest.mark.parametrize("run", ["", "a.b", "*", "../etc", "a" * 101, "a b", "\ud800", "run.#\n"])
def test_an_id_that_no_run_can_have_is_refused_before_anything_is_asked(
    client: Client, run: str
) -> None:
    for call in (client.attach, client.resume):
        with pytest.raises(producer.UsageError, match="run = ") as refused:
            call(run)
        sentence(refused.value)


def test_a_detached_run_waits_for_somebody_who_schedules_it_and_is_found_again(
    warm: Site, client: Client
) -> None:
    job = pi("api-detached", blocks=64)
    detached = client.submit(job.submission, detach=True)
    with Client(warm.broker) as other:
        found = other.attach(job.run)
        with pytest.raises(producer.TimedOutError) as late:
            found.result(0.05)
        assert late.value.partial is not None
        assert [status.run for status in other.status().runs].count(job.run) == 1
        leader = warm.run(job)
        assert found.result(SECONDS).digest == job.digest
    assert leader.wait().code == 0
    assert detached.result(SECONDS).digest == job.digest


def test_many_runs_from_many_threads_share_one_client(client: Client) -> None:
    jobs = [pi(f"api-many-{number}", seed=number, blocks=32) for number in range(12)]

    def answer(job: Submission) -> str | None:
        return client.submit(job).result(SECONDS).digest

    with ThreadPoolExecutor(6) as pool:
        assert [*pool.map(answer, [job.submission for job in jobs])] == [j.digest for j in jobs]
    assert len(client_threads()) == 1


def test_close_lets_go_of_the_run_wakes_who_waits_and_leaves_no_thread(
    warm: Site, closed: Callable[[str], GateJob]
) -> None:
    job = closed("api-close")
    client = Client(warm.broker)
    led, found = client.submit(job.submission), client.attach(job.run)
    halfway(warm, job)
    with ThreadPoolExecutor() as pool:
        waiting = [pool.submit(run.result) for run in (led, found)]
        eventually(lambda: all(future.running() for future in waiting), "both wait")
        client.close()
        for future in waiting:
            with pytest.raises(producer.ClientClosedError, match=r"the client (is|was) closed"):
                future.result(SECONDS)
    client.close()
    assert client_threads() == []
    for call in (led.progress, lambda: client.submit("pi"), lambda: client.resume(job.run)):
        with pytest.raises(producer.ClientClosedError, match="the client is closed"):
            call()
    job.open()
    with Client(warm.broker) as other:
        assert other.submit(job.submission).result(SECONDS).digest == job.digest


def test_a_client_that_never_connected_closes_and_one_that_cannot_says_why() -> None:
    Client("amqp://localhost:1/").close()
    with Client("amqp://localhost:1/") as nobody:
        for call in (nobody.status, lambda: nobody.submit("pi"), lambda: nobody.attach("x")):
            with pytest.raises(BrokerUnreachableError, match="localhost:1"):
                call()
    with pytest.raises(producer.UsageError, match="the AMQP address must read"):
        Client("http://localhost/")
    assert client_threads() == []


def test_the_address_comes_from_the_environment_and_the_password_from_a_file(
    warm: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = warm.broker
    file = tmp_path / "password"
    file.write_text(f"{broker.password}\n", encoding="utf-8")
    monkeypatch.setenv(AMQP_URL_VARIABLE, f"amqp://{broker.user}:wrong@{broker.host}:{broker.port}")
    with Client(password_file=file) as client:
        assert client.status().consumers == 1
    with Client() as wrong, pytest.raises(producer.BrokerError, match="refused"):
        wrong.status()
    with pytest.raises(producer.UsageError, match="password_file"):
        Client(broker, password_file=file)


def test_runs_and_questions_survive_a_lost_connection(
    warm: Site, closed: Callable[[str], GateJob]
) -> None:
    job = closed("api-lost")
    with proxy(warm.broker) as between, Client(between.broker) as client:
        led, found = client.submit(job.submission), client.attach(job.run)
        halfway(warm, job)
        with ThreadPoolExecutor() as pool:
            waiting = [pool.submit(run.result, SECONDS) for run in (led, found)]
            break_often(between, found)
            job.open()
            assert [future.result(SECONDS).digest for future in waiting] == [job.digest] * 2


def break_often(between: Proxy, run: Run) -> None:
    for _ in range(3):
        eventually(between.break_all, "there is a connection")
        assert run.progress().samples >= CLOSED_FROM * SIZE


def test_whoever_stops_waiting_stops_nobody_else(
    warm: Site, closed: Callable[[str], GateJob]
) -> None:
    job = closed("api-async")

    async def program() -> list[Snapshot]:
        async with AsyncClient(warm.broker) as client:
            run = await client.submit(job.submission)
            impatient = asyncio.create_task(run.result())
            await asyncio.to_thread(halfway, warm, job)
            impatient.cancel()
            with pytest.raises(asyncio.CancelledError):
                await impatient
            with pytest.raises(producer.TimedOutError):
                await run.result(0)
            job.open()
            seen = [snapshot async for snapshot in run]
            assert (await run.result(0)).digest == job.digest
            return seen

    seen = asyncio.run(program())
    assert seen[-1].state is RunState.FINISHED


def test_a_submission_that_is_given_up_leaves_nothing_behind(warm: Site) -> None:
    async def program() -> None:
        async with AsyncClient(warm.broker) as client:
            submitting = asyncio.create_task(client.submit("pi", id="api-given-up", seed=1))
            await asyncio.sleep(0)
            submitting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await submitting
            (session,) = (t for t in asyncio.all_tasks() if t.get_name().startswith("montemq "))
            with pytest.raises(asyncio.CancelledError):
                await session

    asyncio.run(program())
    gc.collect()


def script(site: Site, text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own program
        # Warnings as in development mode, whose slow callbacks are those of a busy machine.
        [sys.executable, "-W", "default", "-c", text],
        env=environment(site.broker.url),
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )


def test_a_program_that_never_closes_its_client_ends_at_once_and_in_silence(warm: Site) -> None:
    ended = script(
        warm,
        "import producer\n"
        "client = producer.Client()\n"
        "run = client.submit('pi', id='api-unclosed', seed=1, stop={'samples': 10**12})\n"
        "print(run.progress().state)\n",
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "running\n", "")
    assert warm.command("cancel", "api-unclosed").code == 0


def test_a_client_works_after_a_fork_if_it_was_not_used_before_and_says_so_if_it_was(
    warm: Site,
) -> None:
    ended = script(
        warm,
        "import os, warnings, producer\n"
        "warnings.simplefilter('ignore', DeprecationWarning)  # of threads and forks\n"
        "fresh, used = producer.Client(), producer.Client()\n"
        "print(used.status().consumers, flush=True)\n"
        "if not (child := os.fork()):\n"
        "    print(fresh.status().consumers)\n"
        "    try:\n"
        "        used.status()\n"
        "    except producer.UsageError as error:\n"
        "        print(error)\n"
        "    used.close()\n"
        "    fresh.close()\n"
        "else:\n"
        "    os.waitpid(child, 0)\n"
        "    print(used.status().consumers)\n"
        "    used.close()\n",
    )
    assert ended.stdout.splitlines() == [
        "1", "1",
        "this client was in use before the process forked; make one in each process",
        "1",
    ]  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_command_line_starts_without_the_python_api() -> None:
    code = "import sys, ops.cli; sys.exit('producer' in sys.modules or 'asyncio' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], env=environment(), check=True)  # noqa: S603
