"""What `montemq doctor` warns of, asked on brokers that are open and on one that is not."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ops.broker_holes import holes
from ops.private_broker import PrivateBroker
from protocol.amqp_probe import probe
from protocol.settings import Broker
from tests.support.enrolled import enrolled_broker, login
from tests.support.stack_site import Site

SECURITY = ("guest", "listeners", "rights")


def checks(site: Site, broker: Broker) -> dict[str, dict[str, Any]]:
    doctor = site.command("doctor", "--json", broker=broker)
    return {check["name"]: check for check in doctor.json}


def warnings(site: Site, broker: Broker) -> dict[str, str]:
    """Return what it warns of; a warning is nothing wrong."""
    found = {name: check for name, check in checks(site, broker).items() if check["warning"]}
    assert all(check["ok"] for check in found.values())
    return {name: check["text"] for name, check in found.items()}


def test_it_warns_of_guest_and_of_rights_that_nobody_needs(site: Site) -> None:
    found = warnings(site, site.broker)
    assert found.keys() - {"holes"} == {"guest", "rights"}
    assert "can log in with the password that everybody knows" in found["guest"]
    assert found["rights"].startswith("user 'guest' may declare and write and read what no role")
    shown = site.command("doctor").out.splitlines()
    assert [line[:5] for line in shown if line[7:].startswith(SECURITY)] == [
        "WARN ",
        "ok   ",
        "WARN ",
    ]


def test_it_tells_the_holes_of_the_release_that_runs(site: Site) -> None:
    known = holes(probe(site.broker).version)
    check = checks(site, site.broker)["holes"]
    assert check["warning"] is bool(known)
    assert all(hole.record in check["text"] for hole in known)


def test_it_warns_of_a_listener_beyond_this_machine_without_tls(site: Site) -> None:
    with PrivateBroker.start(host="0.0.0.0", user="me", password="secret") as node:  # noqa: S104, S106
        broker = replace(node.broker, host="127.0.0.1")
        found = warnings(site, broker)
        assert f"other machines reach 0.0.0.0:{node.port} without TLS" in found["listeners"]
        assert "guest" not in found


@pytest.fixture
def least(tmp_path: Path) -> Iterator[PrivateBroker]:
    with enrolled_broker(tmp_path, "spare-1") as node:
        yield node


def test_nobody_is_warned_where_users_have_what_they_need(
    site: Site, least: PrivateBroker, tmp_path: Path
) -> None:
    for user in ("producer", "aggregator", "operator", "consumer.spare-1"):
        broker = login(least, tmp_path, user)
        found = checks(site, broker)
        assert [found[name]["warning"] for name in SECURITY] == [False] * len(SECURITY), user
        assert user in found["rights"]["text"]
