"""Hostile messages on every queue are refused and counted by reason, and nothing stops."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pika
import pytest

from ops.private_broker import PrivateBroker
from producer.scheduler import SILENCE_SECONDS
from protocol.codec import pack
from protocol.definition import Lane
from protocol.messages import (
    CellProgress,
    ConsumerState,
    Failure,
    FailureKind,
    Finished,
    Headline,
    Partial,
    Progress,
    RefusalReason,
    RunState,
    Telemetry,
    decode,
    encode,
)
from protocol.rpc_messages import ErrorCode, ErrorReply, StatusRequest
from protocol.topology import (
    DEAD,
    DIRECT_REPLY,
    EVENTS,
    RESULTS,
    RPC,
    RPC_KEY,
    TELEMETRY,
    WORK,
    finished_key,
    partial_key,
    progress_key,
    work_key,
    work_queue,
)
from tests.support.fault_table import ANSWER, MOVES, REFUSED
from tests.support.real_broker import reset
from tests.support.run_values import leader
from tests.support.stack_hostile import Hostile, changed, hostile, send
from tests.support.stack_jobs import GateJob, gate
from tests.support.stack_processes import Program, Service, eventually
from tests.support.stack_site import Site

BLOCKS, CLOSED_FROM = 64, 8
WORK_KEY = work_key("default", Lane.NORMAL)
REJECTED = "montemq_messages_rejected_total"
BY_CONSUMERS = "montemq_host_messages_rejected_total"
BY_PRODUCERS = "montemq_producer_messages_rejected_total"
ASKED = 'montemq_rpc_requests_total{method="missing",outcome="ok"}'

Seen = Callable[[str], None]


@dataclass
class Scene:
    """An installation in the middle of a run."""

    site: Site
    aggregator: Service
    consumer: Service
    job: GateJob
    run: Program
    seen: Seen

    def rejected(self) -> Counter[str]:
        return Counter(
            {
                reason.value: int(self.aggregator.metric(f'{REJECTED}{{reason="{reason}"}}'))
                for reason in RefusalReason
            }
        )

    @contextmanager
    def rejects(self, wanted: Counter[str]) -> Iterator[None]:
        """Check that so many more messages are refused, by reason, than before the context."""
        before = self.rejected()
        yield
        eventually(
            lambda: (self.rejected() - before).total() >= wanted.total(),
            f"{wanted.total()} messages are counted",
            20,
        )
        assert self.rejected() - before == wanted
        reasons = ", ".join(f"{reason} {amount}" for reason, amount in sorted(wanted.items()))
        self.seen(f"{REJECTED} +{wanted.total()} ({reasons})")

    def send(self, exchange: str, key: str, messages: list[Hostile]) -> None:
        """Send messages, and check that each was refused for its reason."""
        with self.rejects(Counter(message.reason for message in messages)):
            send(self.site.broker, exchange, key, messages)

    def grows(self, name: str, before: float, amount: float) -> None:
        """Wait until a counter has grown by this, and by no more."""
        eventually(
            lambda: self.aggregator.metric(name) >= before + amount, f"{name} grows by {amount}"
        )
        assert self.aggregator.metric(name) == before + amount
        self.seen(f"{name} +{amount}")

    def goes_on(self) -> None:
        """Let the run finish: same answer, same processes, same reign of the aggregator."""
        epoch = self.aggregator.metric("montemq_store_epoch")
        assert self.run.running
        self.job.open()
        self.site.assert_answer(self.job, self.run.wait())
        assert self.aggregator.running
        assert self.consumer.running
        assert self.aggregator.metric("montemq_store_epoch") == epoch == 1
        assert "trying again" not in self.aggregator.err + self.consumer.err + self.run.err


@pytest.fixture(scope="module")
def installation(
    private_broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Site, Service, Service]]:
    reset(private_broker.broker)
    with Site(private_broker.broker, tmp_path_factory.mktemp("hostile")) as site:
        aggregator, consumer = site.aggregator(), site.consumer()
        aggregator.ready()
        consumer.ready()
        yield site, aggregator, consumer


@pytest.fixture
def scene(
    installation: tuple[Site, Service, Service],
    tmp_path: Path,
    plugin: None,
    seen: Seen,
    request: pytest.FixtureRequest,
) -> Iterator[Scene]:
    """Start a run, and hand it over when it can go on only with `job.open()`."""
    del plugin
    site, aggregator, consumer = installation
    run_id = re.sub(r"\W", "-", request.node.name)[:90]
    job = gate(run_id, tmp_path, closed_from=CLOSED_FROM, blocks=BLOCKS)
    run = site.run(job, "--chunk-blocks", "1")
    site.reached(job, CLOSED_FROM / BLOCKS)
    eventually(job.waiting, "a block waits")
    yield Scene(site, aggregator, consumer, job, run, seen)
    job.open()
    run.kill()


def forged(scene: Scene, message: Partial | Failure) -> list[Hostile]:
    """Return answers in the right form that are false."""
    last = scene.job.definition.blocks
    return [
        changed(message, "invalid", "no blocks", blocks=0),
        changed(message, "invalid", "negative count", blocks=-1),
        changed(message, "invalid", "negative block", first_block=-1),
        changed(message, "invalid", "beyond 2**32", first_block=2**32 - 1, blocks=2),
        changed(message, "invalid", "a float", first_block=1.0),
        changed(message, "invalid", "bytes for text", run=scene.job.run.encode()),
        changed(message, "out_of_range", "a block too far", first_block=last),
        changed(message, "out_of_range", "over the end", first_block=last - 1, blocks=2),
        changed(message, "out_of_range", "another cell", cell=1),
        changed(message, "unknown_run", "another run", run="nobody-declared-this"),
        changed(message, "wrong_definition", "another definition", definition=bytes(32)),
        changed(
            message, "crosses_checkpoint", "over a checkpoint",
            first_block=scene.job.definition.checkpoints[0] - 1, blocks=2,
        ),
    ]  # fmt: skip


@pytest.mark.fault("Hostile results", REFUSED, MOVES)
def test_hostile_results_are_refused_and_counted(scene: Scene) -> None:
    partial = scene.job.partial(first_block=0)
    statistics = partial.statistics.model_dump(mode="python")
    failure = Failure(
        **{name: getattr(partial, name) for name in ("run", "definition", "attempt", "cell")},
        first_block=CLOSED_FROM, blocks=1, kind=FailureKind.CRASH, text="", consumer="x", host="x",
    )  # fmt: skip
    nan = float("nan")
    messages = [
        *hostile(partial),
        *forged(scene, partial),
        changed(partial, "invalid", "NaN", cpu_seconds=nan),
        changed(partial, "invalid", "infinite", cpu_seconds=float("inf")),
        changed(partial, "invalid", "NaN in a sum", statistics=statistics | {"sums": (nan,)}),
        changed(partial, "invalid", "minus one", statistics=statistics | {"blocks": -1}),
        changed(partial, "wrong_shape", "two blocks in one", blocks=2),
        *hostile(failure),
        *forged(scene, failure),
        changed(failure, "invalid", "no kind", kind="sabotage"),
        changed(failure, "invalid", "a long text", text="x" * 2049),
    ]
    scene.send(RESULTS, partial_key("guest"), messages)
    scene.goes_on()


@pytest.mark.fault("Hostile telemetry", REFUSED, MOVES)
def test_hostile_telemetry_is_refused_and_counted(scene: Scene) -> None:
    telemetry = Telemetry(
        consumer="x", host="x", pool="default", slots=1, busy=0,
        state=ConsumerState.STOPPED, version="1",
    )  # fmt: skip
    messages = [
        *hostile(telemetry),
        changed(telemetry, "invalid", "negative slots", slots=-1),
        changed(telemetry, "invalid", "a state of its own", state="evil"),
        changed(telemetry, "invalid", "NaN slots", slots=float("nan")),
        changed(telemetry, "invalid", "a wildcard", pool="*"),
        *hostile(leader()),
        changed(leader(), "invalid", "negative runs", runs=-1),
        changed(leader(), "invalid", "a number for a truth", first=1),
        changed(leader(), "invalid", "a path for a host", host="../h"),
    ]
    scene.send(TELEMETRY, "guest", messages)
    scene.goes_on()


@pytest.mark.fault("Hostile requests", REFUSED, MOVES)
def test_hostile_requests_are_refused_and_counted(scene: Scene) -> None:
    addressed = f"{DIRECT_REPLY}.nobody"
    bad = [replace(message, reply_to=addressed) for message in hostile(StatusRequest(run="x"))]
    # `run` may be absent, so that a request without it is an honest one.
    bad = [message for message in bad if message.what != "a missing field"]
    scene.send(RPC, RPC_KEY, bad)
    scene.goes_on()


@pytest.mark.fault("Requests with forged reply addresses", REFUSED, MOVES)
@pytest.mark.parametrize(
    "reply_to", [None, "", work_queue("default", Lane.NORMAL), "mc.results.q", f"{DIRECT_REPLY}-x"]
)
def test_a_request_with_a_forged_reply_address_is_refused_and_answered_nowhere(
    installation: tuple[Site, Service, Service], reply_to: str | None, seen: Seen
) -> None:
    site, aggregator, _ = installation
    name = f'{REJECTED}{{reason="invalid"}}'
    before = aggregator.metric(name)
    received = aggregator.metric('montemq_messages_received_total{queue="mc.results.q"}')
    request = StatusRequest()
    send(site.broker, RPC, RPC_KEY, [Hostile("", request.type, encode(request), "", reply_to)])
    eventually(lambda: aggregator.metric(name) == before + 1, "the request is refused")
    assert aggregator.metric('montemq_messages_received_total{queue="mc.results.q"}') == received
    seen(f"{name} +1")


@pytest.mark.fault("Bad requests of honest clients", REFUSED, MOVES)
def test_whoever_sends_a_bad_request_is_told_and_keeps_the_connection(scene: Scene) -> None:
    wanted = Counter(malformed=2, unknown_type=1)
    url = pika.URLParameters(scene.site.broker.url)
    with scene.rejects(wanted), pika.BlockingConnection(url) as connection:
        channel = connection.channel()
        replies: list[tuple[str, bytes]] = []
        channel.basic_consume(
            DIRECT_REPLY,
            lambda _c, _m, properties, body: replies.append((properties.type, body)),
            auto_ack=True,
        )
        for type_name, body in (
            ("status.v1", b"\xc1"),
            ("status.v9", pack({})),
            ("status.v1", b""),
        ):
            properties = pika.BasicProperties(type=type_name, reply_to=DIRECT_REPLY)
            channel.basic_publish(RPC, RPC_KEY, body, properties)
        eventually(lambda: connection.process_data_events(0.05) or len(replies) == 3, "answers")
        assert connection.is_open
    answers = [decode(name, body, ErrorReply) for name, body in replies]
    assert [answer.code for answer in answers] == [ErrorCode.INVALID] * 3
    scene.goes_on()


@pytest.mark.fault("Hostile chunks", REFUSED, MOVES)
def test_hostile_chunks_are_refused_by_the_consumer_and_counted_as_dead_letters(
    scene: Scene,
) -> None:
    chunk = scene.job.chunk()
    messages = [
        *hostile(chunk),
        changed(chunk, "invalid", "negative count", blocks=-1),
        changed(chunk, "invalid", "beyond 2**32", first_block=2**32 - 1, blocks=2),
        changed(chunk, "invalid", "an empty block", block_size=0),
        changed(chunk, "invalid", "NaN", params={"folder": "x", "closed_from": float("nan")}),
        changed(chunk, "invalid", "an import path", model="os.system"),
        changed(chunk, "invalid", "a negative seed", seed=-1),
    ]
    before = scene.aggregator.metric(BY_CONSUMERS)
    scene.send(WORK, WORK_KEY, messages)
    scene.grows(BY_CONSUMERS, before, len(messages))
    scene.goes_on()


@pytest.mark.fault("Chunks that nobody issued", REFUSED, MOVES)
def test_chunks_that_nobody_issued_are_computed_and_their_results_refused(scene: Scene) -> None:
    chunk = scene.job.chunk()
    messages = [
        changed(chunk, "out_of_range", "a block too far", first_block=BLOCKS),
        changed(chunk, "out_of_range", "another cell", cell=7),
        changed(chunk, "unknown_run", "another run", run="nobody-declared-this"),
        changed(chunk, "wrong_definition", "another definition", definition=bytes(32)),
        changed(chunk, "wrong_shape", "another block size", block_size=1024, first_block=63),
    ]
    with scene.rejects(Counter(message.reason for message in messages)):
        send(scene.site.broker, WORK, WORK_KEY, messages)
        scene.goes_on()


@pytest.mark.fault("Hostile dead letters", REFUSED, MOVES)
def test_hostile_dead_letters_are_refused_and_counted(scene: Scene) -> None:
    chunk = scene.job.chunk(first_block=CLOSED_FROM)
    messages = [
        *hostile(chunk),
        changed(chunk, "out_of_range", "a block too far", first_block=BLOCKS),
        changed(chunk, "unknown_run", "another run", run="nobody-declared-this"),
        changed(chunk, "wrong_definition", "another definition", definition=bytes(32)),
    ]
    scene.send(DEAD, "", messages)
    scene.goes_on()


def events_of(job: GateJob) -> tuple[Progress, Finished]:
    """Return honest events to be spoilt."""
    progress = Progress(
        run=job.run, epoch=1, sequence=2**40,
        cells=(CellProgress(cell=0, merged=((0, 1),), cost=1e12),),
        failed_attempts=(), slots=1, consumers=1, merged_blocks=1, expected_blocks=1,
        cpu_seconds=0.0,
        headline=Headline(output="mean", mean=0.5, standard_error=None),
    )  # fmt: skip
    finished = Finished(
        run=job.run, definition=job.definition.hash, term=2**31, state=RunState.FINISHED
    )
    return progress, finished


@pytest.mark.fault("Hostile events", REFUSED, MOVES)
def test_hostile_events_stop_neither_producer_nor_consumer(scene: Scene) -> None:
    run, nan = scene.job.run, float("nan")
    progress, finished = events_of(scene.job)
    messages = [
        *hostile(progress),
        *hostile(finished),
        changed(progress, "", "NaN", cpu_seconds=nan),
        changed(progress, "", "negative", merged_blocks=-1),
    ]
    keys = (progress_key(run), finished_key(run))
    by_consumers, by_producers = map(scene.aggregator.metric, (BY_CONSUMERS, BY_PRODUCERS))
    for key in keys:
        send(scene.site.broker, EVENTS, key, messages)
    scene.grows(BY_CONSUMERS, by_consumers, len(messages))  # who hears only of ends
    scene.grows(BY_PRODUCERS, by_producers, len(keys) * len(messages))
    scene.goes_on()


@pytest.mark.fault("A forged end of the run", ANSWER, "it is ignored")
def test_the_end_of_another_definition_of_a_run_does_not_make_consumers_skip_it(
    scene: Scene,
) -> None:
    _, finished = events_of(scene.job)
    other = changed(finished, "", "another definition", definition=bytes(32))
    send(scene.site.broker, EVENTS, finished_key(scene.job.run), [other])
    scene.goes_on()


@pytest.mark.fault("Forged progress", ANSWER, "who doubts it asks", MOVES)
def test_progress_beyond_the_run_or_of_another_run_stops_no_producer(scene: Scene) -> None:
    progress, _ = events_of(scene.job)
    merged = ((0, BLOCKS),)
    messages = [
        changed(
            progress, "", what, run=run, cells=({"cell": cell, "merged": ranges, "cost": 1e12},)
        )
        for what, run, cell, ranges in (
            ("another cell", scene.job.run, 9, merged),
            ("too far", scene.job.run, 0, ((BLOCKS, 2**32),)),
            ("another run", "x", 0, merged),
        )
    ]
    asked = scene.aggregator.metric(ASKED)
    send(scene.site.broker, EVENTS, progress_key(scene.job.run), messages)
    eventually(
        lambda: scene.aggregator.metric(ASKED) > asked,
        "the producer asks instead, sooner than after a silence",
        SILENCE_SECONDS - 1,
    )
    scene.goes_on()
    scene.seen(f"{ASKED} +{scene.aggregator.metric(ASKED) - asked:.0f}")
