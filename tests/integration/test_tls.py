"""TLS with real certificates on a real RabbitMQ: what passes, and what each refusal says."""

import asyncio
import datetime as dt
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ops.broker_definitions import CERTIFICATE_LOGIN
from ops.certificates import Authority, Use
from ops.private_broker import PrivateBroker, free_port
from protocol.amqp_aio import Link
from protocol.amqp_probe import probe
from protocol.errors import BrokerUntrustedError, MontemqError
from protocol.settings import Broker, broker_from_url
from protocol.tls import TlsFiles
from tests.conftest import require_rabbitmq
from tests.support.enrolled import enrolled_broker, login
from tests.support.stack_jobs import pi
from tests.support.stack_site import Site

MACHINE = "consumer.spare-1"
RABBITMQ = Path(__file__).parents[2] / "ops" / "rabbitmq"
LONG_AGO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True)
class World:
    """A broker that wants certificates, and two authorities of which it knows one."""

    node: PrivateBroker
    folder: Path
    port: int
    ours: Authority
    theirs: Authority

    def broker(self, user: str, client: str | None, **changes: object) -> Broker:
        """Return the encrypted address, for a user and with a client's certificate."""
        files = TlsFiles(str(self.ours.certificate), *self.pair(self.ours, client))
        plain = login(self.node, self.folder, user)
        changes = {"host": "localhost", "port": self.port, "tls": files} | changes
        return replace(plain, **changes)  # type: ignore[arg-type]

    def pair(self, authority: Authority, name: str | None) -> tuple[str | None, str | None]:
        if name is None:
            return None, None
        made = authority.folder / f"{name}.pem"
        return str(made), str(made.with_suffix(".key"))

    def forget(self) -> None:
        """Have the broker read its certificate and the revocation lists again."""
        self.node.directory.control().run("eval", "ssl:clear_pem_cache().")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    require_rabbitmq()
    folder, port = tmp_path_factory.mktemp("tls"), free_port("127.0.0.1")
    ours, theirs = Authority(folder / "ours"), Authority(folder / "theirs")
    server = ours.issue(Use.SERVER, "localhost")
    for name in ("aggregator", "producer", MACHINE, "revoked"):
        ours.issue(Use.CLIENT, name)
    ours.issue(Use.CLIENT, "expired", since=LONG_AGO, days=1)
    ours.issue(Use.SERVER, "expired-server", others=["localhost"], since=LONG_AGO, days=1)
    theirs.issue(Use.CLIENT, MACHINE)
    shutil.copy(server, ours.folder / "server.pem")
    shutil.copy(server.with_suffix(".key"), ours.folder / "server.key")
    lines = (RABBITMQ / "tls.conf").read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if line and not line.startswith(("#", "listeners."))]
    advanced = (RABBITMQ / "advanced.config").read_text(encoding="utf-8")
    with enrolled_broker(
        folder,
        "spare-1",
        plugins=(CERTIFICATE_LOGIN,),
        more=(f"listeners.ssl.1 = 127.0.0.1:{port}", *lines),
        advanced=advanced.replace("/etc/rabbitmq/tls", str(ours.folder)).rstrip().rstrip("."),
    ) as node:
        yield World(node, folder, port, ours, theirs)


def by_aio(broker: Broker) -> None:
    async def connect() -> None:
        async with await Link.open(broker, "test"):
            pass

    asyncio.run(connect())


def by_pika(broker: Broker) -> None:
    probe(broker)


ADAPTERS: list[Callable[[Broker], None]] = [by_aio, by_pika]
both = pytest.mark.parametrize("connect", ADAPTERS)


def assert_refused(broker: Broker, connect: Callable[[Broker], None], sentence: str) -> None:
    with pytest.raises(MontemqError) as refused:
        connect(broker)
    assert str(refused.value) == f"no secure connection to {broker}: {sentence}"
    assert type(refused.value) is BrokerUntrustedError
    assert refused.value.exit_code == 3


@both
def test_a_certificate_and_a_password_open_an_encrypted_connection(
    world: World, connect: Callable[[Broker], None]
) -> None:
    connect(world.broker("producer", "producer"))


@both
def test_a_certificate_alone_logs_its_user_in(
    world: World, connect: Callable[[Broker], None]
) -> None:
    connect(world.broker(MACHINE, MACHINE, password=""))
    listed = world.node.directory.control().run("list_users")
    assert MACHINE in listed


@both
def test_an_address_alone_says_all_that_is_needed(
    world: World, connect: Callable[[Broker], None]
) -> None:
    broker = world.broker(MACHINE, MACHINE)
    connect(broker_from_url(broker.url))


@both
def test_another_host_name_than_the_certificates_is_refused(
    world: World, connect: Callable[[Broker], None]
) -> None:
    broker = world.broker("producer", "producer", host="127.0.0.1")
    assert_refused(broker, connect, "its certificate is for another host name")


@both
@pytest.mark.parametrize("ca", ["theirs", "system"])
def test_an_unknown_authority_is_refused(
    world: World, connect: Callable[[Broker], None], ca: str
) -> None:
    broker = world.broker("producer", "producer")
    file = str(world.theirs.certificate) if ca == "theirs" else None
    broker = replace(broker, tls=TlsFiles(file))
    assert_refused(
        broker,
        connect,
        "no authority that is trusted here has signed its certificate; --ca-file names others",
    )


@both
def test_a_certificate_of_the_broker_that_was_revoked_is_refused(
    world: World, connect: Callable[[Broker], None], tmp_path: Path
) -> None:
    files = TlsFiles(str(world.ours.bundle), *world.pair(world.ours, "producer"))
    broker = replace(world.broker("producer", None), tls=files)
    connect(broker)
    shutil.copytree(world.ours.folder, tmp_path / "later")
    later = Authority(tmp_path / "later")
    later.revoke("localhost")
    revoked = replace(broker, tls=replace(files, ca=str(later.bundle)))
    assert_refused(revoked, connect, "its certificate was revoked")


@contextmanager
def serving(world: World, name: str) -> Iterator[None]:
    """Have the broker show another certificate."""
    shown = world.ours.folder / "server"
    kept = {end: Path(f"{shown}{end}").read_bytes() for end in (".pem", ".key")}
    try:
        for end in kept:
            Path(f"{shown}{end}").write_bytes((world.ours.folder / f"{name}{end}").read_bytes())
        world.forget()
        yield
    finally:
        for end, content in kept.items():
            Path(f"{shown}{end}").write_bytes(content)
        world.forget()


def test_a_certificate_of_the_broker_that_has_expired_is_refused(world: World) -> None:
    broker = world.broker("producer", "producer")
    with serving(world, "expired-server"):
        for connect in ADAPTERS:
            assert_refused(broker, connect, "its certificate has expired")
    by_aio(broker)


@both
def test_a_client_without_a_certificate_is_told_that_it_needs_one(
    world: World, connect: Callable[[Broker], None]
) -> None:
    broker = world.broker("producer", None)
    sentence = "it refuses our certificate, which is missing; give --cert-file and --key-file"
    assert_refused(broker, connect, sentence)


@both
def test_a_certificate_of_ours_that_has_expired_is_refused_by_the_broker(
    world: World, connect: Callable[[Broker], None]
) -> None:
    broker = world.broker("producer", "expired")
    assert_refused(broker, connect, "it refuses our certificate, which has expired")


@both
def test_a_certificate_of_ours_from_another_authority_is_refused_by_the_broker(
    world: World, connect: Callable[[Broker], None]
) -> None:
    files = TlsFiles(str(world.ours.certificate), *world.pair(world.theirs, MACHINE))
    broker = replace(world.broker(MACHINE, MACHINE), tls=files)
    sentence = "it refuses our certificate, which is from an authority that it does not know"
    assert_refused(broker, connect, sentence)


def test_a_certificate_of_ours_that_was_revoked_is_refused_by_the_broker(
    world: World, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    for end in (".pem", ".key"):
        shutil.copy(world.ours.folder / f"revoked{end}", kept / f"revoked{end}")
    files = TlsFiles(
        str(world.ours.certificate), *world.pair(replace(world.ours, folder=kept), "revoked")
    )
    broker = replace(world.broker("producer", None), tls=files)
    by_aio(broker)
    world.ours.revoke("revoked")
    world.forget()
    for connect in ADAPTERS:
        assert_refused(broker, connect, "it refuses our certificate, which was revoked")


@both
def test_an_encrypted_address_never_falls_back_to_a_plain_connection(
    world: World, connect: Callable[[Broker], None]
) -> None:
    plain = replace(world.broker("producer", "producer"), port=world.node.port)
    sentence = "whoever answers there does not speak TLS, or closes the connection at once"
    assert_refused(plain, connect, sentence)


def test_the_whole_stack_works_over_tls_with_certificates_and_an_encrypted_page(
    world: World, tmp_path: Path
) -> None:
    job = pi("over-tls")
    cert, key = world.pair(world.ours, "localhost")
    assert cert is not None
    assert key is not None
    with Site(world.broker("aggregator", "aggregator"), tmp_path) as site:
        aggregator = site.aggregator("--http-cert", cert, "--http-key", key)
        consumer = site.consumer(broker=world.broker(MACHINE, MACHINE, password=""))
        url = aggregator.ready()["http_url"]
        consumer.ready()
        trusting = TlsFiles(str(world.ours.certificate)).to_a_server()
        page = url.replace("127.0.0.1", "localhost") + "/healthz"
        with urllib.request.urlopen(page, timeout=10, context=trusting) as answer:  # noqa: S310
            assert answer.status == 200
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            urllib.request.urlopen(page, timeout=10)  # noqa: S310
        ended = site.run(job, broker=world.broker("producer", "producer")).wait()
        site.assert_answer(job, ended)
        stranger = replace(world.broker("producer", "producer"), tls=TlsFiles())
        refused = site.command("status", broker=stranger)
        assert refused.code == 3
        assert "no authority that is trusted here" in refused.err
