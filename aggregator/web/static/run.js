// One run: what it is, how far, its estimates, how they converged, and what went wrong; live.

import { Choice } from "./choice.js";
import { el, setState, setText, shareBar, stateText, table } from "./parts.js";
import { coloursOf, draw, plotsOf } from "./plots.js";
import { Live, Refused, read } from "./source.js";

const SHOWN_ROWS = 200;
const FIGURES = ["estimate", "done", "samples", "samples/s", "time left", "took"];

export function show(main, run) {
  const path = `/api/runs/${encodeURIComponent(run)}`;
  document.title = `${run} · montemq`;
  main.append(el("h1", {}, run));
  let [view, none] = [null, null];
  const live = new Live(`${path}/events`, async () => {
    try {
      const found = await read(`${path}/view`);
      none?.remove();
      // What a choice could not be told is told of and asked for again as all else is.
      view ??= new RunPage(main, path, found,
        () => view.plots.refresh().catch(() => live.refresh()));
      view.update(found);
      await view.plots.refresh();
    } catch (error) {
      if (!(error instanceof Refused && error.status === 404)) throw error;
      // It may be declared yet, or be told of again once its aggregator is active.
      if (view !== null || none !== null) return;
      none = el("p", { class: "problem", role: "alert" }, error.message);
      main.append(none);
    }
  }).start();
}

class RunPage {
  constructor(main, path, found, refresh) {
    this.state = stateText(found.state);
    this.title = el("span");
    this.problem = el("p", { class: "problem", hidden: true });
    this.waits = el("p", { class: "notice", role: "status", hidden: true });
    this.figures = Object.fromEntries(FIGURES.map((name) => [name, el("dd")]));
    this.bar = shareBar();
    this.figures.done.append(this.bar.whole);
    this.plots = new Plots(path, found, refresh);
    this.cells = new Cells(found);
    this.notes = el("ul", { class: "notes" });
    this.failures = el("section", { class: "sheet", "aria-labelledby": "failures", hidden: true });
    main.append(
      el("p", { class: "quiet" }, this.state, " · ", this.title), this.problem, this.waits,
      el("section", { class: "sheet", "aria-label": "Now" },
        el("dl", { class: "figures" }, ...FIGURES.map((name) => (
          el("div", {}, el("dt", {}, name), this.figures[name]))))),
      this.plots.section,
      el("section", { class: "sheet", "aria-labelledby": "cells" },
        el("h2", { id: "cells" }, "Estimates"), ...this.cells.parts, this.notes),
      this.failures,
      el("div", { class: "beside" },
        el("section", { class: "sheet", "aria-labelledby": "definition" },
          el("h2", { id: "definition" }, "Definition"),
          el("dl", { class: "pairs" }, ...found.definition.flatMap(([name, text]) => (
            [el("dt", {}, name), el("dd", {}, text)])))),
        el("section", { class: "sheet", "aria-labelledby": "downloads" },
          el("h2", { id: "downloads" }, "Downloads"),
          el("ul", { class: "links" },
            el("li", {}, el("a", { href: path, download: `${found.run}.json` }, "Result as JSON")),
            el("li", {}, el("a", { href: `${path}/result.csv`, download: true }, "Estimates as CSV")),
            el("li", {}, el("a", { href: `${path}/report.html`, download: true },
              "Report as HTML"))))));
  }

  update(found) {
    const { line } = found;
    setState(this.state, found.state);
    setText(this.title, [found.ended, found.line.model, found.about].filter(Boolean).join(" · "));
    this.problem.hidden = !found.error;
    setText(this.problem, found.error ?? "");
    this.waits.hidden = !line.waits;
    setText(this.waits, line.waits ?? "");
    this.bar.show(line.share);
    setText(this.figures.estimate, line.estimate || "—");
    setText(this.figures.samples, line.texts.samples);
    setText(this.figures["samples/s"], line.texts.rate || "—");
    setText(this.figures["time left"], line.texts.left || "—");
    setText(this.figures.took, line.texts.elapsed);
    this.cells.update(found);
    this.notes.replaceChildren(...found.notes.map((note) => el("li", {}, note)));
    this.showFailures(found.failures);
  }

  showFailures(failures) {
    if (this.failures.count === failures.length) return;
    this.failures.count = failures.length;
    this.failures.hidden = failures.length === 0;
    const rows = table(`${failures.length} failures of chunks are kept`, [
      { name: "cell", right: true }, { name: "blocks", right: true }, { name: "kind" },
      { name: "what it said" }, { name: "host" }, { name: "consumer" },
    ]);
    rows.body.append(...failures.map((one) => el("tr", {},
      el("td", { class: "number" }, String(one.cell)),
      el("td", { class: "number" }, blocksText(one)),
      el("td", {}, one.kind), el("td", { class: "long" }, one.text),
      el("td", { class: "id" }, one.host), el("td", { class: "id" }, one.consumer))));
    this.failures.replaceChildren(el("h2", { id: "failures" }, "Failures"),
      el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Failures" }, rows.whole));
  }
}

function blocksText({ first_block: first, blocks }) {
  return blocks > 1 ? `${first} – ${first + blocks - 1}` : String(first);
}

/** The table of estimates, which can be sorted by each of its columns. */
class Cells {
  constructor(found) {
    this.table = table("Estimates; a column's name sorts by it", []);
    this.more = el("button", { type: "button", hidden: true }, "Show all");
    this.sorted = { column: null, down: false };
    this.limit = SHOWN_ROWS;
    this.more.addEventListener("click", () => {
      this.limit = Infinity;
      this.draw();
    });
    this.head(found.columns);
    this.parts = [
      el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Estimates" },
        this.table.whole),
      el("p", { class: "pages" }, this.more)];
  }

  head(columns) {
    this.columns = columns;
    this.table.head.replaceChildren(...columns.map((column, index) => el("th",
      { scope: "col", class: column.right ? "number" : null, "aria-sort": "none" },
      el("button", { type: "button", on: { click: () => this.sort(index) } }, column.name))));
  }

  sort(index) {
    this.sorted = { column: index, down: this.sorted.column === index && !this.sorted.down };
    [...this.table.head.children].forEach((head, number) => {
      const order = this.sorted.down ? "descending" : "ascending";
      head.setAttribute("aria-sort", number === index ? order : "none");
    });
    this.draw();
  }

  update(found) {
    this.rows = found.rows;
    if (found.columns.map((column) => column.name).join("\n") !==
        this.columns.map((column) => column.name).join("\n")) this.head(found.columns);
    this.draw();
  }

  draw() {
    const { column, down } = this.sorted;
    const rows = [...this.rows];
    if (column !== null) {
      rows.sort((one, other) => compare(one.texts[column], other.texts[column]) * (down ? -1 : 1));
    }
    const shown = rows.slice(0, this.limit);
    this.more.hidden = shown.length === rows.length;
    setText(this.more, `Show all ${rows.length.toLocaleString("en")} rows`);
    const body = this.table.body;
    while (body.rows.length > shown.length) body.deleteRow(-1);
    shown.forEach((row, index) => {
      const line = body.rows[index] ?? body.appendChild(el("tr", {}, ...this.columns.map(
        ({ right }) => el("td", { class: right ? "number" : null }))));
      while (line.cells.length < row.texts.length) line.append(el("td"));
      row.texts.forEach((text, place) => setText(line.cells[place], text));
    });
  }
}

/** Compare two texts, as numbers where they begin with some. */
function compare(one, other) {
  const [left, right] = [one, other].map((text) => (
    Number.parseFloat(text.replaceAll(",", "").replace(/^÷ /, ""))));
  const numbers = [Number.isNaN(left), Number.isNaN(right)];
  if (numbers[0] && numbers[1]) return one.localeCompare(other);
  return numbers[0] - numbers[1] || left - right;
}

/** The plots of the cell and output that are chosen. */
class Plots {
  constructor(path, found, refresh) {
    this.path = path;
    this.cell = new Choice("Cell", found.cells, refresh);
    this.output = el("select", {}, ...found.outputs.map((name) => (
      el("option", { value: name }, name))));
    this.none = el("p", { class: "quiet", hidden: true }, "Nothing of it is merged.");
    this.figures = el("div", { class: "plots" });
    this.drawn = [];
    this.section = el("section", { class: "sheet", "aria-labelledby": "convergence" },
      el("h2", { id: "convergence" }, "Convergence"),
      el("div", { class: "tools" },
        ...(found.cells.length > 1 ? this.cell.parts : []),
        found.outputs.length > 1 ? el("label", {}, "Output", this.output) : null),
      this.none, this.figures);
    this.output.addEventListener("change", refresh);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    this.library = null;
  }

  async refresh() {
    const query = this.query();
    const data = await read(`${this.path}/history?${query}`);
    if (query !== this.query()) return;  // what has been chosen since is asked for by itself
    const text = JSON.stringify(data);
    if (text === this.text) return;
    [this.text, this.data] = [text, data];
    await this.draw();
  }

  query() {
    return String(new URLSearchParams({ cell: this.cell.value, output: this.output.value }));
  }

  async draw() {
    if (this.data === undefined) return;
    this.library ??= load("/static/plotly.min.js").catch((error) => {
      this.library = null;  // so that it is tried again
      throw error;
    });
    await this.library;
    const plots = this.plots = plotsOf(this.data, coloursOf(document.documentElement));
    this.none.hidden = plots.length > 0;
    while (this.drawn.length > plots.length) this.drawn.pop().whole.remove();
    while (this.drawn.length < plots.length) {
      const caption = el("figcaption");
      const drawing = el("div", { class: "plot", role: "img" });
      this.drawn.push({ caption, drawing, whole: el("figure", {}, caption, drawing) });
      this.figures.append(this.drawn.at(-1).whole);
    }
    // Only now, because each one's width depends on how many there are.
    for (const [index, plot] of plots.entries()) {
      if (plots !== this.plots) return;  // others are drawn by now
      const { caption, drawing } = this.drawn[index];
      setText(caption, plot.caption);
      drawing.setAttribute("aria-label", `${plot.caption}. ${plot.text}`);
      await draw(drawing, plot.figure);
    }
  }
}

function load(path) {
  return new Promise((resolve, reject) => {
    const script = el("script", { src: path });
    script.addEventListener("load", resolve);
    script.addEventListener("error", () => reject(new TypeError(`${path} cannot be loaded`)));
    document.head.append(script);
  });
}
