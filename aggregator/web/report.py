"""A run as one HTML file that needs nothing else: for the page's download and the command line.

Numbers stand in it as text; only the plots need its scripts, which its own policy names by hash.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from importlib.metadata import version
from typing import Any

from aggregator.web import static_files
from aggregator.web.views import cell_name, plot_data, run_view
from protocol.rate import clock_text
from protocol.result_texts import with_error
from protocol.results import Result
from protocol.rpc_messages import Failures, History

MAX_PLOTS = 6
"""So many cells or outputs are plotted; the table has all of them."""

DRAW = """
for (const figure of document.querySelectorAll("figure[data-plot]")) {
  const [place, number] = figure.dataset.plot.split(" ").map(Number);
  const data = JSON.parse(document.getElementById("data").textContent)[place];
  const drawing = figure.querySelector(".plot");
  const show = () => {
    const plot = plotsOf(data, coloursOf(document.documentElement))[number];
    figure.hidden = plot === undefined;
    if (plot === undefined) return;
    figure.querySelector("figcaption").textContent = plot.caption;
    drawing.setAttribute("aria-label", `${plot.caption}. ${plot.text}`);
    draw(drawing, plot.figure);
  };
  show();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
}
"""


def report(result: Result, failures: Failures, histories: Sequence[History], now: float) -> str:
    """Return the report of a run.

    Parameters
    ----------
    result, failures
        All that is told of it.
    histories
        Of its first cells, for the plots.
    now
        Seconds since the epoch: when it is made.
    """
    view = run_view(result, failures)
    plots = _plots(result, histories)
    style = static_files.text("page.css")
    scripts = [static_files.plotly().read_text(encoding="utf-8"), _module() + DRAW]
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; "
        f"script-src {' '.join(map(_hash, scripts))}; base-uri 'none'; form-action 'none'"
    )
    # A data block is not run; what could end it is written in another way.
    data = json.dumps([data for _, data in plots], allow_nan=False).replace("<", "\\u003c")
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{escape(result.run)} · montemq</title>",
            f'<style id="plotly.js-style-global">{style}</style>',
            "</head>",
            "<body>",
            static_files.stand_ins(),
            "<main>",
            *_body(result, view, [name for name, _ in plots]),
            f'<p class="quiet">{escape(_made(now))}</p>',
            "</main>",
            f'<script type="application/json" id="data">{data}</script>',
            f"<script>{scripts[0]}</script>",
            f'<script type="module">{scripts[1]}</script>',
            "</body>",
            "</html>",
            "",
        )
    )


def _plots(result: Result, histories: Sequence[History]) -> list[tuple[str, dict[str, Any]]]:
    """Return what is plotted: of the first output all cells, then of the next one."""
    outputs = histories[0].outputs if histories else ()
    wanted = [(output, history) for output in outputs for history in histories][:MAX_PLOTS]
    return [
        (
            f"{output}, {cell_name(result, history.cell)}" if len(result.cells) > 1 else output,
            plot_data(result, history, output),
        )
        for output, history in wanted
    ]


def _body(result: Result, view: dict[str, Any], plots: Sequence[str]) -> Iterable[str]:
    yield f"<h1>{escape(result.run)}</h1>"
    state = escape(result.state)
    told = " · ".join(filter(None, (view["ended"], result.model, view["about"])))
    yield (
        f'<p class="quiet"><span class="state" data-state="{state}">{state}</span> '
        f"· {escape(told)}</p>"
    )
    if result.error:
        yield f'<p class="problem">{escape(result.error)}</p>'
    yield '<section class="sheet"><dl class="figures">'
    for name, text in _figures(result, view):
        yield f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>"
    yield "</dl></section>"
    yield '<section class="sheet"><h2>Estimates</h2>'
    rows = ([*row["texts"]] for row in view["rows"])
    yield from _table([(c["name"], c["right"]) for c in view["columns"]], rows)
    yield '<ul class="notes">'
    yield from (f"<li>{escape(note)}</li>" for note in view["notes"])
    yield "</ul></section>"
    if plots:
        yield '<section class="sheet"><h2>Convergence</h2>'
        for place, name in enumerate(plots):
            yield f'<h3>{escape(name)}</h3><div class="plots">'
            for number in range(3):
                yield (
                    f'<figure data-plot="{place} {number}"><figcaption></figcaption>'
                    '<div class="plot" role="img"></div></figure>'
                )
            yield "</div>"
        yield "</section>"
    if view["failures"]:
        yield '<section class="sheet"><h2>Failures</h2>'
        names = ("cell", "first_block", "blocks", "kind", "text", "host", "consumer")
        failures = ([str(one[name]) for name in names] for one in view["failures"])
        yield from _table([(name.replace("_", " "), False) for name in names], failures)
        yield "</section>"
    yield '<section class="sheet"><h2>Definition</h2><dl class="pairs">'
    for name, text in view["definition"]:
        yield f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>"
    yield "</dl></section>"


def _figures(result: Result, view: dict[str, Any]) -> Iterable[tuple[str, str]]:
    name, first = next(iter(result.cells[0].outputs.items()))
    if view["has_errors"]:
        more = f" (cell 0 of {len(result.cells):,})" if len(result.cells) > 1 else ""
        yield "estimate", f"{name} {with_error(first.mean, first.standard_error)}{more}"
    yield "samples", f"{result.samples:,}"
    yield "took", clock_text(result.elapsed_seconds)
    yield "processor time", clock_text(result.cpu_seconds)


def _table(columns: Sequence[tuple[str, bool]], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    classes = [' class="number"' if right else "" for _, right in columns]
    yield '<div class="wide"><table><thead><tr>'
    for (name, _), kind in zip(columns, classes, strict=True):
        yield f'<th scope="col"{kind}>{escape(name)}</th>'
    yield "</tr></thead><tbody>"
    for row in rows:
        texts = zip(row, classes, strict=True)
        cells = "".join(f"<td{kind}>{escape(text)}</td>" for text, kind in texts)
        yield f"<tr>{cells}</tr>"
    yield "</tbody></table></div>"


def _module() -> str:
    """Return the page's module of plots, as one script with what uses it."""
    return re.sub(r"^export ", "", static_files.text("plots.js"), flags=re.MULTILINE)


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _made(now: float) -> str:
    when = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"made {when} by montemq {version('montemq')}"
