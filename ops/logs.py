"""How services log: one line per event on stderr, for people on a terminal, as JSON elsewhere."""

import json
import logging
import os
import re
import sys
from datetime import UTC, datetime

from protocol.errors import UsageError
from protocol.log_ids import IDS, LOGGER

LEVEL_VARIABLE = "MONTEMQ_LOG_LEVEL"
LEVELS = ("debug", "info", "warning", "error")


class JsonLines(logging.Formatter):
    """One JSON object per event: `time`, `level`, `logger`, `event`, ids, and `traceback`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; whatever a message says, it has no end of line in it."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        content = {
            "time": at.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **ids(record),
        }
        if record.exc_info:
            content["traceback"] = self.formatException(record.exc_info)
        return json.dumps(content, ensure_ascii=False)


class Lines(logging.Formatter):
    """One line for people; below it a traceback where there is one."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """Return the line without a terminal's codes, and the ids that it does not name itself."""
        line = super().formatMessage(record)
        known = re.findall(r"[\w-]+", record.getMessage())
        more = [f"{k}={v}" for k, v in ids(record).items() if str(v) not in known]
        return "".join(c if c.isprintable() else " " for c in " ".join([line, *more]))


def ids(record: logging.LogRecord) -> dict[str, object]:
    """Return what an event is about."""
    return {name: getattr(record, name) for name in IDS if hasattr(record, name)}


def log_to_stderr() -> None:
    """Send a service's log to stderr, from the level on that the environment names.

    Raises
    ------
    UsageError
        It names none.
    """
    level = os.environ.get(LEVEL_VARIABLE, "info").lower()
    if level not in LEVELS:
        raise UsageError(f"{LEVEL_VARIABLE} = {level!r} must be one of {', '.join(LEVELS)}")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines() if sys.stderr.isatty() else JsonLines())
    # What libraries have to say below a warning is of no use to whoever follows a chunk.
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger(LOGGER).setLevel(level.upper())


def said(line: str) -> str:
    """Return what a line of a service's stderr says, a log's event or anything else."""
    try:
        content = json.loads(line)
    except ValueError:
        return line
    return str(content["event"]) if isinstance(content, dict) and "event" in content else line
