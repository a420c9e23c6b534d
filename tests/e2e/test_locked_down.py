"""A broker of one's own, locked down: TLS, a user for each role, and machines that come and go."""

import json
import subprocess
import sys
import urllib.request
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError

import pytest
from click.testing import CliRunner

from ops.certificates import Authority, Use
from ops.commands.broker import broker
from ops.private_broker import free_port
from protocol.settings import Broker, broker_from_url
from protocol.tls import TlsFiles
from tests.conftest import require_rabbitmq
from tests.support.enrolled import PASSWORDS, print_definitions
from tests.support.stack_jobs import pi
from tests.support.stack_processes import Service, environment
from tests.support.stack_site import Site


def test_a_machine_is_enrolled_by_the_two_lines_that_are_printed_and_revoked_while_it_works(
    tmp_path: Path, plugin: None
) -> None:
    del plugin
    require_rabbitmq()
    (tmp_path / "definitions.json").write_text(print_definitions(tmp_path))
    authority = Authority(tmp_path / "tls")
    cert = authority.issue(Use.SERVER, "localhost", others=["127.0.0.1"])
    files = TlsFiles(str(authority.certificate))
    address = f"127.0.0.1:{free_port('127.0.0.1')}"
    node = Service(
        (
            *("broker", "run", "--listen", address, "--data-dir", "broker"),
            *("--definitions", "definitions.json", "--cert-file", str(cert)),
            *("--key-file", str(cert.with_suffix(".key"))),
        ),
        tmp_path,
        environment(),
    )
    try:
        url = node.ready(120)["amqp_url"]
        assert url == f"amqps://producer@{address}/montemq"

        def user(name: str) -> Broker:
            return broker_from_url(
                url.replace("producer", name),
                str(tmp_path / PASSWORDS / f"{name}.password"),
                files,
            )

        with Site(user("aggregator"), tmp_path) as site:
            site.aggregator().ready()
            way = ("--data-dir", "broker", "--passwords", str(tmp_path / PASSWORDS))
            enrolled = site.command("enrol", "new-1", *way, broker=user("operator"))
            assert enrolled.code == 0, enrolled.err
            machine = tmp_path / "machine"
            machine.mkdir()
            first, second = enrolled.out.splitlines()
            password = (tmp_path / PASSWORDS / "consumer.new-1.password").read_text()
            subprocess.run(  # noqa: S603 - what was printed
                ["/bin/sh", "-c", first], cwd=machine, input=password, text=True, check=True
            )
            assert (machine / "montemq.password").stat().st_mode & 0o777 == 0o600
            (machine / "montemq-ca.pem").write_bytes(authority.certificate.read_bytes())
            program, *arguments = second.split()
            assert program == "montemq"
            consumer = Service((*arguments, "--slots", "1"), machine, environment())
            site.programs.append(consumer)
            consumer.ready()
            job = pi("locked-down")
            site.assert_answer(job, site.run(job, broker=user("producer")).wait())
            assert site.command("revoke", "new-1", *way).code == 0
            consumer.says("wrong user or password")
    finally:
        node.kill()


def test_certificates_alone_let_users_in_and_show_the_page(tmp_path: Path, plugin: None) -> None:
    del plugin
    require_rabbitmq()
    printed = definitions("--certificates", "spare-1")
    (tmp_path / "definitions.json").write_text(printed)
    assert {user["password_hash"] for user in json.loads(printed)["users"]} == {""}
    authority = Authority(tmp_path / "tls")
    server = authority.issue(Use.SERVER, "localhost", others=["127.0.0.1"])
    key = str(server.with_suffix(".key"))
    trusted = str(authority.certificate)
    address = f"127.0.0.1:{free_port('127.0.0.1')}"
    node = Service(
        (
            *("broker", "run", "--listen", address, "--definitions", "definitions.json"),
            *("--cert-file", str(server), "--key-file", key, "--ca-file", trusted),
        ),
        tmp_path,
        environment(),
    )

    def files(name: str) -> TlsFiles:
        pair = authority.issue(Use.CLIENT, name)
        return TlsFiles(trusted, str(pair), str(pair.with_suffix(".key")))

    try:
        url = node.ready(120)["amqp_url"]

        def user(name: str) -> Broker:
            return replace(broker_from_url(url), user=name, password="", tls=files(name))

        with Site(user("aggregator"), tmp_path) as site:
            page = ("--http-cert", str(server), "--http-key", key, "--http-ca", trusted)
            aggregator = site.aggregator(*page)
            health = aggregator.ready()["http_url"].replace("127.0.0.1", "localhost") + "/healthz"
            site.consumer(broker=user("consumer.spare-1")).ready()
            job = pi("certificates")
            site.assert_answer(job, site.run(job, broker=user("producer")).wait())
            guessed = replace(user("producer"), password="guess")  # noqa: S106
            refused = site.command("status", broker=guessed)
            assert refused.code == 3
            assert "wrong user or password" in refused.err
            shown = files("somebody").to_a_server()
            with urllib.request.urlopen(health, timeout=10, context=shown) as answer:  # noqa: S310
                assert answer.status == 200
            nobody = TlsFiles(trusted).to_a_server()
            with pytest.raises(
                (ConnectionError, URLError)
            ):  # whether its alert still arrives or not
                urllib.request.urlopen(health, timeout=10, context=nobody)  # noqa: S310
    finally:
        node.kill()


@pytest.mark.parametrize("options", [(), ("--certificates", "--passwords", "passwords")])
def test_users_log_in_by_passwords_or_by_certificates(options: tuple[str, ...]) -> None:
    done = CliRunner().invoke(broker, ["definitions", "--rabbitmq", "4", *options])
    assert str(done.exception) == "give either --passwords DIRECTORY or --certificates"


def definitions(*options: str) -> str:
    command = ["definitions", "--rabbitmq", "3.10", *options]
    return CliRunner().invoke(broker, command, catch_exceptions=False).stdout


def test_what_does_not_go_together_for_a_private_broker_is_refused(tmp_path: Path) -> None:
    for name in ("d", "c", "k"):
        (tmp_path / name).touch()
    for name, text in (("d", '{"vhosts": [{"name": "montemq"}]}'), ("e", "[]"), ("f", "junk {")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    wrong = {
        ("--definitions", "e"): "has no virtual host 'montemq'",
        ("--definitions", "f"): "is no JSON",
        ("--cert-file", "c"): "--cert-file and --key-file go together",
        ("--ca-file", "c"): "--ca-file needs them",
        ("--definitions", "d", "--user", "u", "--password-file", "k"): "exclude each other",
    }
    for options, sentence in wrong.items():
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "ops.cli", "broker", "run", *options],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert sentence in done.stderr
