"""The Django example against a real stack, through Django's test client, as a visitor would."""

import importlib
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from html import escape
from pathlib import Path
from typing import Any

import pytest

import producer
from ops.stack import Stack
from protocol.result_texts import with_error
from protocol.settings import AMQP_URL_VARIABLE, broker_from_url
from tests.conftest import require_rabbitmq
from tests.support.stack_processes import ROOT, environment, eventually
from tests.support.stack_site import Site

pytest.importorskip("django")

PROJECT = ROOT / "ops" / "examples" / "django"
VALUES = {
    "strike": "105",
    "volatility": "0.3",
    "option_type": "put",
    "standard_error": "",
    "samples": "200000",
}
LONG = VALUES | {"samples": "1000000000"}
KEY = {"DJANGO_SECRET_KEY": "a key for tests only"}


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    require_rabbitmq()
    with Stack.start(consumers=1, slots=1, prefer_port=None, quiet=True) as started:
        yield started


@pytest.fixture(scope="module")
def pricing(stack: Stack) -> Iterator[Any]:
    """Return the example's module of runs, in a Django that is set up for this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(PROJECT)
        patch.setenv("TZ", "UTC")  # Django sets it, and would leave it so
        patch.setenv("DJANGO_SETTINGS_MODULE", "pricing_site.settings")
        patch.setenv(AMQP_URL_VARIABLE, stack.amqp_url)
        for name, value in KEY.items():
            patch.setenv(name, value)
        import django  # noqa: PLC0415 - only once there are settings
        from django.test.utils import (  # noqa: PLC0415
            setup_test_environment,
            teardown_test_environment,
        )

        django.setup()
        setup_test_environment()
        runs = importlib.import_module("pricing.runs")
        yield runs
        runs.client.close()
        teardown_test_environment()


@pytest.fixture
def visitor(pricing: Any) -> Any:
    """Return somebody with a browser of their own."""
    del pricing
    from django.test import Client  # noqa: PLC0415

    return Client(enforce_csrf_checks=True)


def post(visitor: Any, url: str, values: dict[str, str]) -> Any:
    """Send a form as a browser does, with the token of the page."""
    visitor.get("/")
    token = visitor.cookies["csrftoken"].value
    return visitor.post(url, values | {"csrfmiddlewaretoken": token})


def submitted(visitor: Any, values: dict[str, str]) -> str:
    """Submit a form and return the run's id, read from the address of its page."""
    answer = post(visitor, "/", values)
    assert answer.status_code == 302, answer.content.decode()
    found = re.fullmatch(r"/runs/(web-[0-9a-f]{24})/", answer.url)
    assert found is not None, answer.url
    return found[1]


def page(visitor: Any, run: str) -> str:
    answer = visitor.get(f"/runs/{run}/")
    assert answer.status_code == 200
    return str(answer.content.decode())


def progress(visitor: Any, run: str) -> dict[str, Any]:
    answer = visitor.get(f"/runs/{run}/progress.json")
    assert answer.status_code == 200
    content: dict[str, Any] = answer.json()
    return content


def text_of(page: str, name: str) -> str:
    found = re.search(rf'id="{name}">([^<]*)<', page)
    assert found is not None, page
    return found[1]


def test_a_run_is_submitted_followed_and_shown_with_the_result_of_the_command_line(
    visitor: Any, stack: Stack, tmp_path: Path
) -> None:
    run = submitted(visitor, VALUES)
    eventually(lambda: progress(visitor, run)["ended"], "the run ends")
    with Site(broker_from_url(stack.amqp_url), tmp_path) as site:
        result = site.command("results", run, "--json").json
        told = site.command("results", run).out
    shown, price = page(visitor, run), result["cells"][0]["outputs"]["price"]
    assert text_of(shown, "state") == result["state"] == "finished"
    assert text_of(shown, "digest") == result["digest"]
    assert text_of(shown, "price") == with_error(price["mean"], price["standard_error"])
    assert text_of(shown, "interval") in told
    assert int(text_of(shown, "samples")) == result["samples"]
    assert "put, strike 105.0, volatility 0.3" in shown
    assert text_of(shown, "ended_by") == "the limit of samples"
    for gone in ("http-equiv", "<script", "<progress", "Cancel"):
        assert gone not in shown
    assert f'href="/runs/{run}/"' in visitor.get("/").content.decode()


def test_a_run_ends_at_the_standard_error_that_the_form_asks_for(visitor: Any) -> None:
    run = submitted(visitor, LONG | {"standard_error": "0.0002"})
    eventually(lambda: progress(visitor, run)["ended"], "the run ends")
    shown = page(visitor, run)
    assert 0.0001 < float(text_of(shown, "price").split(" ± ")[1]) <= 0.0002
    assert text_of(shown, "ended_by") == "the standard error that was asked for"
    assert int(text_of(shown, "samples")) < 10_000_000


def test_a_running_run_shows_its_progress_with_and_without_scripts_and_can_be_cancelled(
    visitor: Any,
) -> None:
    run = submitted(visitor, LONG)
    assert progress(visitor, run)["state"] == "running"
    eventually(lambda: progress(visitor, run)["samples"], "samples are merged")
    now, shown = progress(visitor, run), page(visitor, run)
    assert 0 < now["share"] < 1
    assert (now["state"], now["ended"], now["slots"]) == ("running", False, 1)
    assert float(now["price"].split(" ± ")[0]) > 0
    assert '<noscript><meta http-equiv="refresh" content="2"></noscript>' in shown
    assert f'fetch("/runs/{run}/progress.json")' in shown
    assert int(text_of(shown, "samples")) >= now["samples"]
    assert visitor.post(f"/runs/{run}/cancel/").status_code == 403
    assert visitor.get(f"/runs/{run}/cancel/").status_code == 405
    assert progress(visitor, run)["state"] == "running"
    assert post(visitor, f"/runs/{run}/cancel/", {}).url == f"/runs/{run}/"
    assert progress(visitor, run)["state"] == "cancelled"
    assert text_of(page(visitor, run), "state") == "cancelled"
    assert submitted(visitor, LONG) == run
    assert progress(visitor, run)["state"] == "running"
    post(visitor, f"/runs/{run}/cancel/", {})


def test_a_form_sent_twice_at_once_is_one_run_and_of_another_visitor_another_one(
    visitor: Any, stack: Stack
) -> None:
    values = LONG | {"strike": "95"}
    visitor.get("/")
    token = visitor.cookies["csrftoken"].value
    together = threading.Barrier(2)

    def send() -> str:
        together.wait()
        return str(visitor.post("/", values | {"csrfmiddlewaretoken": token}).url)

    with ThreadPoolExecutor(2) as pool:
        first, second = (pool.submit(send) for _ in range(2))
        assert first.result() == second.result()
    run = first.result().split("/")[2]
    other = submitted(type(visitor)(enforce_csrf_checks=True), values)
    assert other != run
    with producer.Client(stack.amqp_url) as client:
        assert [status.run for status in client.status().runs].count(run) == 1
        assert {client.attach(name).cancel().value for name in (run, other)} == {"cancelled"}


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"strike": ""}, "This field is required."),
        ({"strike": "high"}, "Enter a number."),
        ({"strike": "nan"}, "Enter a number."),
        ({"strike": "-1"}, "params.strike = -1.0 is not allowed: it should be"),
        ({"volatility": "1e9"}, "params.volatility = 1000000000.0 is not allowed"),
        ({"option_type": "<script>"}, "Select a valid choice. <script> is not one"),
        ({"standard_error": "-1"}, "stop.standard_error = -1.0 is not allowed"),
        ({"samples": "0"}, "stop.samples = 0 is not allowed"),
        ({"samples": "1000000001"}, "less than or equal to 1000000000"),
    ],
)
def test_what_is_wrong_is_said_at_its_field_and_nothing_is_submitted(
    visitor: Any, stack: Stack, changed: dict[str, str], sentence: str
) -> None:
    with producer.Client(stack.amqp_url) as client:
        before = len(client.status().runs)
        answer = post(visitor, "/", VALUES | changed)
        assert answer.status_code == 400
        (field,) = changed
        (said,) = answer.context["form"].errors[field]
        assert sentence in said
        assert escape(said) in answer.content.decode()
        assert list(answer.context["form"].errors) == [field]
        assert len(client.status().runs) == before


@pytest.mark.parametrize(
    "run",
    ["web-0", "a" * 100, "a" * 101, "..%2f..%2fetc", "%23", "run.*", "%00", "-a", "a%0a", "é"],
)
def test_a_run_that_is_unknown_or_not_the_visitors_or_no_run_at_all_is_not_found(
    visitor: Any, stack: Stack, run: str
) -> None:
    with producer.Client(stack.amqp_url) as client:
        client.submit("pi", id="web-0", seed=1, stop={"samples": 2}, detach=True)
    for url in (f"/runs/{run}/", f"/runs/{run}/progress.json"):
        assert visitor.get(url).status_code == 404
    assert post(visitor, f"/runs/{run}/cancel/", {}).status_code == 404


def test_a_run_that_montemq_has_forgotten_is_not_found(visitor: Any) -> None:
    visitor.get("/")
    session = visitor.session
    session["runs"] = ["web-forgotten"]
    session.save()
    visitor.cookies["sessionid"] = session.session_key
    assert 'href="/runs/web-forgotten/"' in visitor.get("/").content.decode()
    assert visitor.get("/runs/web-forgotten/").status_code == 404


def test_without_a_broker_visitors_get_a_page_that_does_not_tell_its_address(
    visitor: Any, pricing: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with producer.Client("amqp://user:secret@localhost:1/") as nowhere:
        monkeypatch.setattr(pricing, "client", nowhere)
        answer = post(visitor, "/", VALUES)
    assert answer.status_code == 503
    assert "Nothing can be computed at the moment" in answer.content.decode()
    assert "localhost" not in answer.content.decode()
    assert "localhost:1" in caplog.text
    assert "secret" not in caplog.text


def check(*options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    env = environment(**variables)
    env = {k: v for k, v in env.items() if not k.startswith("DJANGO_") or k in variables}
    return subprocess.run(  # noqa: S603 - our own command line
        [sys.executable, "manage.py", "check", *options],
        cwd=PROJECT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_settings_are_safe_and_a_missing_key_is_said_in_a_sentence() -> None:
    missing = check()
    assert missing.returncode == 1
    assert "DJANGO_SECRET_KEY is not set" in missing.stderr.splitlines()[-1]
    key = "k" * 30 + "".join(chr(code) for code in range(97, 123))
    deployed = check("--deploy", DJANGO_SECRET_KEY=key, DJANGO_HTTPS="1")
    assert deployed.returncode == 0
    assert set(re.findall(r"security\.W\d+", deployed.stderr)) <= {"security.W004"}  # HSTS


def test_no_page_asks_for_anything_from_elsewhere() -> None:
    for template in PROJECT.rglob("*.html"):
        assert re.findall(r"(?:https?:)?//[a-z]", template.read_text(encoding="utf-8")) == []
