"""What `submit` takes, laid over each other as the command line does it, as a validated submission.

Rules and sentences are those of run files; nothing is checked here that is checked there.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

from producer.run_sections import parse, read_run_file
from producer.runfile import Submission, submission
from protocol.errors import UsageError

Fields = Mapping[str, Any]
"""The fields of one section of a run file."""

What = str | Path | Fields | Submission
"""The name of a model, the path of a run file, the sections of one, or what was validated."""


class Sections(TypedDict, total=False):
    """What a run file can say, as keywords: fields of `[run]`, then whole sections."""

    id: str
    seed: int
    pool: str
    lane: str
    params: Fields
    cells: Sequence[Fields]
    sweep: Mapping[str, Sequence[Any]]
    sampling: Fields
    outputs: Fields
    stop: Fields


RUN_FIELDS = ("id", "seed", "pool", "lane")
"""Keywords that are fields of `[run]`."""


def prepare(what: What, /, **sections: Unpack[Sections]) -> Submission:
    """Check a run without submitting it, and return what `submit` would declare.

    Parameters
    ----------
    what
        The name of a model, the `Path` of a run file, a mapping with the sections of one, or a
        `Submission`.
    **sections
        What a run file can say, laid over `what` field by field, `cells` as a whole: `id`, `seed`,
        `pool` and `lane` of `[run]`, and the sections `params`, `cells`, `sweep`, `sampling`,
        `outputs`, `stop`.

    Raises
    ------
    UsageError
        One sentence that names the field, the value and what is allowed.
    """
    for name in sections:
        if name not in Sections.__annotations__:
            allowed = ", ".join(Sections.__annotations__)
            raise UsageError(f"submit: {name} is unknown; allowed are {allowed}")
    if isinstance(what, Submission):
        if sections:
            raise UsageError(f"submit: {', '.join(sections)} came too late for a submission")
        return what
    where, content = _content(what)
    for name, value in sections.items():
        if name in RUN_FIELDS:
            _lay_over(content, "run", {name: value})
        else:
            _lay_over(content, name, _plain(value))
    return submission(parse(content, where), where=where)


def _content(what: str | Path | Fields) -> tuple[str, dict[str, Any]]:
    """Return how to name the run in a complaint, and its sections."""
    if isinstance(what, str):
        return "submit", {"run": {"model": what}}
    if isinstance(what, Path):
        return str(what), read_run_file(what).model_dump(exclude_unset=True)
    if isinstance(what, Mapping):
        return "submit", _plain(what)
    raise UsageError(
        f"submit: {what!r:.80} is no run: it should be the name of a model, the Path of a run "
        "file, a mapping with its sections, or a Submission"
    )


def _lay_over(content: dict[str, Any], section: str, value: Any) -> None:
    below = content.get(section)
    both = isinstance(below, dict) and isinstance(value, dict)
    content[section] = below | value if both else value


def _plain(value: Any) -> Any:
    """Return any mapping as a dictionary and any sequence as a list, as a run file has them."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(item) for item in value]
    return value
