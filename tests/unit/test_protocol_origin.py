"""What a machine is called in messages fits them, whatever its administrator has called it."""

import socket

import pytest
from pydantic import TypeAdapter

from protocol.messages import ConsumerName, Word
from protocol.origin import host_name, release_of, software_version


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("calc-1.example.org", "calc-1.example.org"),
        ("_under score_", "under-score_"),
        ("Rechner-für-alle", "Rechner-f-r-alle"),
        ("-.-", "unknown"),
        ("", "unknown"),
        ("a" * 300, "a" * 100),
    ],
)
def test_a_host_is_told_by_its_name_in_allowed_characters(
    monkeypatch: pytest.MonkeyPatch, name: str, told: str
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    assert host_name.__wrapped__() == told
    assert TypeAdapter(ConsumerName).validate_python(f"{told}-a1b2c3")


def test_the_version_is_a_word_of_the_protocol() -> None:
    assert TypeAdapter(Word).validate_python(software_version()) != "unknown"


def test_versions_compare_by_their_numbers() -> None:
    ascending = ["unknown", "", "0.9", "0.10.0rc1", "0.10.1", "1"]
    assert [release_of(text) for text in ascending] == [
        (),
        (),
        (0, 9),
        (0, 10, 0),
        (0, 10, 1),
        (1,),
    ]
