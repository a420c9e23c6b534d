"""The model against exact values: a polynomial for the bridge, all states for other networks."""

import itertools

import numpy as np
import pytest

from network_reliability.model import NetworkReliability
from network_reliability.network import Network

SAMPLES = 200_000
SIGMAS = 4.5
"""An honest sample is further off once in 150,000 seeds; the seeds here are fixed."""

RING = ("a-b", "b-c", "c-d", "d-e", "e-f", "f-a", "b-e")


def exact(model: NetworkReliability) -> list[float]:
    """Sum the probabilities of all states of the network in which it is connected."""
    chances = model.reliability * (len(model.links) if len(model.reliability) == 1 else 1)
    totals = [0.0, 0.0]
    for state in itertools.product((False, True), repeat=len(model.links)):
        weight = float(np.prod([p if up else 1 - p for up, p in zip(state, chances, strict=True)]))
        found = walk(model, state)
        totals[0] += weight * (model.end in found)
        totals[1] += weight * (len(found) == len(model.network.nodes))
    return totals


def walk(model: NetworkReliability, state: tuple[bool, ...]) -> set[str]:
    """Return the nodes that a walk along working links finds, one step at a time."""
    open_links = [link.split("-") for link, up in zip(model.links, state, strict=True) if up]
    found, todo = {model.start}, [model.start]
    while todo:
        here = todo.pop()
        for pair in open_links:
            if here in pair:
                there = pair[1 - pair.index(here)]
                if there not in found:
                    found.add(there)
                    todo.append(there)
    return found


def assert_close(model: NetworkReliability, expected: list[float]) -> None:
    samples = model.sample(np.random.default_rng(1), SAMPLES)
    assert samples.shape == (SAMPLES, 2)
    error = samples.std(axis=0) / np.sqrt(SAMPLES)
    assert np.all(np.abs(samples.mean(axis=0) - expected) <= SIGMAS * error)


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_the_bridge_has_the_reliability_of_its_polynomials(p: float) -> None:
    model = NetworkReliability(reliability=(p,))
    two = 2 * p**2 + 2 * p**3 - 5 * p**4 + 2 * p**5
    everything = 8 * p**3 * (1 - p) ** 2 + 5 * p**4 * (1 - p) + p**5
    assert exact(model) == pytest.approx([two, everything])
    assert_close(model, [two, everything])


def test_another_network_has_the_reliability_that_all_its_states_give() -> None:
    model = NetworkReliability(
        links=RING, reliability=(0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3), start="a", end="d"
    )
    assert_close(model, exact(model))


def test_links_at_the_end_of_the_list_are_followed_in_both_directions() -> None:
    network = Network.parse(("d-c", "c-b", "b-a"))
    working = np.array([[True, True, False], [True, False, True], [True, True, True]])
    assert network.reached("a", working).T.tolist() == [
        [True, True, True, True],
        [True, True, False, False],
        [True, True, True, False],
    ]


@pytest.mark.parametrize("link", ["", "a", "a-", "-b", "a-a", "a-b-c"])
def test_a_link_that_does_not_name_two_nodes_is_refused(link: str) -> None:
    with pytest.raises(ValueError, match="must name two different nodes"):
        NetworkReliability(links=("s-t", link))


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(ValueError, match="end = 'x' is no node; nodes are a, b, s, t"):
        NetworkReliability(end="x")
    with pytest.raises(ValueError, match="reliability has 2 numbers, allowed are 1 and 5"):
        NetworkReliability(reliability=(0.5, 0.5))
    with pytest.raises(ValueError, match="less than or equal to 1"):
        NetworkReliability(reliability=(1.5,))
