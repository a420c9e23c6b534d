"""Where the runbook is read: the one base of the links of alerts and dashboards, and its page.

`python -m ops.grafana --runbook URL` writes another base into all of them.
"""

import re
from itertools import pairwise
from pathlib import Path

BASE_URL = "http://127.0.0.1:9464/runbook"
"""Every aggregator serves it; this is the address of one on the machine of Prometheus."""

PAGE = Path(__file__).parent / "runbook.html"
"""What aggregators serve, made from `SOURCE`."""

SOURCE = Path(__file__).parent / "RUNBOOK.md"

FRAME = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>montemq: runbook</title>
<link rel="icon" href="/static/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/static/page.css">
</head>
<body>
<a class="skip" href="#runbook">Skip to the content</a>
<header>
<a class="brand" href="/">montemq</a>
<nav aria-label="Pages">
<a href="/">Runs</a>
<a href="/fleet">Fleet</a>
</nav>
</header>
<main class="text">
{body}</main>
</body>
</html>
"""


def link(section: str, base: str = BASE_URL) -> str:
    """Return the address of a section, that of an alert by its name."""
    return f"{base}#{section.lower()}"


def page() -> str:
    """Return the runbook in HTML; each section has its title, in small letters, as anchor."""
    from markdown_it import MarkdownIt  # noqa: PLC0415 - only where it is made

    markdown = MarkdownIt()
    tokens = markdown.parse(SOURCE.read_text(encoding="utf-8"))
    for opening, title in pairwise(tokens):
        if opening.type == "heading_open":
            opening.attrSet("id", title.content.lower())
    body = markdown.renderer.render(tokens, markdown.options, {})
    return FRAME.format(body=body)


def rebased(alerts: str, base: str) -> str:
    """Return a file of alerts whose links go to the runbook at this address."""
    return re.sub(r"(?<=runbook_url: )\S+(?=#)", lambda _: base, alerts)
