"""A service of a stack that does not start: its own sentence and exit code reach whoever waits."""

import os
import signal
from pathlib import Path

import pytest

from ops.service import Service
from protocol.errors import ServiceFailedError
from tests.support.stack_processes import environment


def failed(service: Service, number: signal.Signals | None = None) -> ServiceFailedError:
    service.start()
    if number is not None:
        service.signal(number)
    with pytest.raises(ServiceFailedError) as ended:
        service.wait_until_ready()
    service.stop(1)
    return ended.value


def consumer(folder: Path, *, quiet: bool) -> Service:
    words = ["consumer", "--pool", "No Pool"]
    return Service("consumer-0", words, folder, environment(), quiet)


def test_a_quiet_service_that_fails_is_quoted_and_its_exit_code_kept(tmp_path: Path) -> None:
    error = failed(consumer(tmp_path, quiet=True))
    assert error.exit_code == 2
    assert str(error).startswith(
        "consumer-0 did not start (exit code 2): pool = 'No Pool' is not allowed: "
    )


def test_a_wrong_option_of_a_quiet_service_is_quoted_too(tmp_path: Path) -> None:
    words = ["aggregator", "--store", str(tmp_path)]
    error = failed(Service("aggregator", words, tmp_path, environment(), quiet=True))
    assert error.exit_code == 2
    assert str(error).startswith("aggregator did not start (exit code 2): Invalid value for '--sto")


def test_a_service_that_is_not_quiet_has_said_why_and_its_exit_code_is_kept(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    error = failed(consumer(tmp_path, quiet=False))
    assert error.exit_code == 2
    assert str(error) == "consumer-0 did not start (exit code 2): it has said why on stderr"
    assert capfd.readouterr().err.startswith("montemq: pool = 'No Pool' is not allowed: ")


def test_a_service_that_is_killed_before_it_is_ready_is_an_error_of_its_own(tmp_path: Path) -> None:
    store = os.fspath(tmp_path / "store.sqlite")
    service = Service("aggregator", ["aggregator", "--store", store], tmp_path, environment(), True)
    error = failed(service, signal.SIGKILL)
    assert error.exit_code == 1
    assert str(error) == "aggregator did not start (exit code -9): it said nothing"
