"""What a validator complains of in words that do not need to be explained."""

from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from protocol.definition import Name, RunId
from protocol.sentences import counted, rule


class _Table(BaseModel):
    pass


@pytest.mark.parametrize(
    ("kind", "value", "sentence"),
    [
        (RunId, "a b", "a run id is A-Z, a-z, 0-9, _ and -, begins with a letter or digit, and"),
        (Name, "A", "a name is a-z, 0-9 and _, begins with a letter, and has at most 40"),
        (_Table, 5, "it should be a table of names and values"),
        (dict[str, int], 5, "it should be a table of names and values"),
        (Annotated[list[int], Field(min_length=1)], [], "it should have at least 1 item"),
        (Annotated[str, Field(max_length=2)], "abc", "it should have at most 2 characters"),
        (Annotated[str, Field(pattern="^x$")], "y", "it should match pattern '^x$'"),
    ],
)
def test_a_complaint_is_one_about_what_was_given(kind: Any, value: Any, sentence: str) -> None:
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(kind).validate_python(value)
    said = rule(refused.value.errors()[0])
    assert said.startswith(sentence)
    assert "after validation" not in said


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0 chunks"), (1, "1 chunk"), (1200, "1,200 chunks")]
)
def test_what_is_counted_agrees_with_its_number(number: int, words: str) -> None:
    assert counted(number, "chunk") == words
