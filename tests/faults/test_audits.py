"""A machine that flips bits, among others that do not: whose numbers count, and what it is told."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pika
import pytest

from ops.broker_roles import Role
from ops.private_broker import PrivateBroker
from protocol.errors import HostRefusedError, UsageError
from protocol.machines import machine_user
from protocol.messages import encode
from protocol.topology import TELEMETRY
from tests.support.enrolled import channel, enrolled_broker, login
from tests.support.fault_table import ANSWER, MOVES, REFUSED
from tests.support.run_values import telemetry
from tests.support.stack_jobs import Job, pi
from tests.support.stack_processes import Ended, Service, eventually
from tests.support.stack_site import Site

FLIPPING = str(Path(__file__).parents[1] / "support" / "flipping")
WRONG, *GOOD = "flips", "good-1", "good-2"
FOUND, REFUSED_HOSTS = 'montemq_audits_total{outcome="wrong"}', "montemq_refused_hosts"


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with the broker's definitions and passwords."""
    return tmp_path_factory.mktemp("accounts")


@pytest.fixture(scope="module")
def node(accounts: Path) -> Iterator[PrivateBroker]:
    with enrolled_broker(accounts, WRONG, *GOOD) as started:
        yield started


class Fleet:
    """An aggregator that audits a share of the chunks, and machines with users of their own."""

    def __init__(self, site: Site, node: PrivateBroker, accounts: Path, share: float) -> None:
        self.site, self.node, self.accounts = site, node, accounts
        self.aggregator = self.start_aggregator(share)
        self.consumers: dict[str, Service] = {}

    def start_aggregator(self, share: float) -> Service:
        broker = login(self.node, self.accounts, Role.AGGREGATOR)
        service = self.site.aggregator("--audit-share", str(share), "--adopt-store", broker=broker)
        service.ready()
        return service

    def start(self, host: str) -> Service:
        """Start the consumer of a host."""
        broker = login(self.node, self.accounts, machine_user(host))
        path = FLIPPING if host == WRONG else ""
        self.consumers[host] = self.site.consumer(1, broker=broker, path=path)
        return self.consumers[host]

    def join(self, *hosts: str) -> None:
        """Start the consumers of these hosts, and wait until the aggregator knows of them."""
        for service in [self.start(host) for host in hosts]:
            service.ready()
        slots = sum(consumer.running for consumer in self.consumers.values())
        eventually(lambda: self.aggregator.metric("montemq_live_slots") == slots, "all are known")

    def run(self, job: Job) -> Ended:
        """Run a job to its end."""
        broker = login(self.node, self.accounts, Role.PRODUCER)
        return self.site.run(job, "--chunk-blocks", "1", broker=broker).wait()

    def answers(self, job: Job) -> dict[str, Any]:
        """Run a job to its end, which must be right; return its result."""
        return self.site.assert_answer(job, self.run(job))


Start = Callable[[float], Fleet]
Seen = Callable[[str], None]


@pytest.fixture
def fleet(site: Site, node: PrivateBroker, accounts: Path) -> Start:
    """Return what starts an aggregator for a fleet, told the share of chunks to audit."""
    return lambda share: Fleet(site, node, accounts, share)


@pytest.mark.fault("A machine flips a bit in its sums", ANSWER, MOVES, "it is refused")
def test_a_machine_that_flips_bits_is_found_refused_and_harms_no_digest(
    fleet: Start, seen: Seen
) -> None:
    machines = fleet(1.0)
    machines.join(WRONG, *GOOD)
    aggregator = machines.aggregator
    assert aggregator.metric(FOUND) == aggregator.metric(REFUSED_HOSTS) == 0
    result = machines.answers(pi("audited", blocks=64))
    wrong = machines.consumers[WRONG].wait()
    assert wrong.code == HostRefusedError.exit_code
    assert "host flips is refused: in an audit it sent other numbers" in wrong.err
    assert all(machines.consumers[host].running for host in GOOD)
    assert aggregator.metric(FOUND) == aggregator.metric(REFUSED_HOSTS) == 1
    aggregator.says("host flips sent other numbers than two hosts: refused")
    # Every chunk that is in the result was computed on both of the others.
    assert result["audits"] == {"passed": result["audits"]["passed"], "skipped": 0}
    assert result["audits"]["passed"] >= 64
    assert machines.site.rows("SELECT DISTINCT host FROM contributors ORDER BY host") == [
        (host,) for host in GOOD
    ]
    # Another process of that machine is told so at once, until an operator readmits it.
    assert machines.start(WRONG).wait().code == HostRefusedError.exit_code
    store = ("--store", str(machines.site.store))
    assert machines.site.command("store", "readmit", WRONG, *store).code == 0
    eventually(lambda: aggregator.metric(REFUSED_HOSTS) == 0, "it is readmitted")
    seen(f"{FOUND} 0 → 1; {REFUSED_HOSTS} 0 → 1 → 0")
    machines.join(WRONG)
    assert machines.site.command("store", "readmit", WRONG, *store).code == UsageError.exit_code


@pytest.mark.fault(
    "A machine flips a bit in its sums, and nobody audits",
    "every block counts once; another digest",
)
def test_without_audits_a_machine_that_flips_bits_spoils_the_result(
    fleet: Start, seen: Seen
) -> None:
    machines = fleet(0.0)
    machines.join(WRONG, *GOOD)
    job = pi("audited-not", blocks=64)
    ended = machines.run(job)
    assert ended.code == 0, ended.err
    assert ended.json["digest"] != job.digest
    machines.site.assert_every_block_counts_once(job)
    assert machines.consumers[WRONG].running
    assert machines.aggregator.metric("montemq_audits_total") == 0
    seen("montemq_audits_total 0: no metric tells of it, but audits do")


def test_the_only_machine_finishes_and_its_results_say_that_nobody_audited_them(
    fleet: Start,
) -> None:
    machines = fleet(1.0)
    machines.join(GOOD[0])
    result = machines.answers(pi("alone", blocks=64))
    assert result["audits"] == {"passed": 0, "skipped": 64}


@pytest.mark.fault("A machine speaks for another one", ANSWER, MOVES, REFUSED)
def test_a_machine_that_speaks_for_another_is_not_heard(fleet: Start, seen: Seen) -> None:
    """Nobody can answer its own audits, or have another machine refused."""
    machines = fleet(1.0)
    machines.join(GOOD[0])
    refused = 'montemq_messages_rejected_total{reason="invalid"}'
    assert machines.aggregator.metric(refused) == 0
    forged = telemetry("good-2-1", host=GOOD[1])
    user = machine_user(GOOD[0])
    with channel(login(machines.node, machines.accounts, user)) as opened:
        properties = pika.BasicProperties(type=forged.type, user_id=user)
        opened.basic_publish(TELEMETRY, user, encode(forged), properties)
    eventually(lambda: machines.aggregator.metric(refused) == 1, "it is refused")
    seen(f"{refused} 0 → 1")
    assert machines.aggregator.metric("montemq_live_consumers") == 1
    machines.answers(pi("beside-a-forger", blocks=64))
