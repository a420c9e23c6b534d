"""Consumers whose version an operator refuses end, and say which one is wanted."""

from protocol.origin import software_version
from tests.support.stack_jobs import pi
from tests.support.stack_site import Site


def test_a_consumer_of_a_refused_version_ends_and_says_which_one_is_wanted(site: Site) -> None:
    aggregator = site.aggregator("--oldest-consumer", "99.1")
    aggregator.ready()
    ended = site.consumer().wait()
    assert ended.code == 8
    assert f"from montemq 99.1 on, and this is {software_version()}: install a newer" in ended.err
    assert aggregator.metric("montemq_live_slots") == 0


def test_a_consumer_of_the_version_that_is_wanted_computes(site: Site) -> None:
    site.aggregator("--oldest-consumer", software_version()).ready()
    site.consumer().ready()
    job = pi("new-enough")
    site.assert_answer(job, site.run(job).wait())


def test_what_is_no_version_is_refused(site: Site) -> None:
    ended = site.command("aggregator", "--oldest-consumer", "new")
    assert ended.code == 2
    assert "--oldest-consumer = 'new' must be a version, such as 0.2.0" in ended.err
