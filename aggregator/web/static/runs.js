// The list of runs: searched, filtered and cut into pages by the server, live.

import { el, follow, setState, setText, shareBar, stateText, table, timeText } from "./parts.js";
import { Live, read } from "./source.js";

const STATES = ["running", "finished", "failed", "cancelled"];
const COLUMNS = [
  { name: "run" }, { name: "state" }, { name: "model" }, { name: "done" }, { name: "estimate" },
  { name: "samples", right: true }, { name: "samples/s", right: true },
  { name: "time left", right: true }, { name: "took", right: true }, { name: "pool" },
  { name: "started" },
];

export function show(main) {
  const query = new URLSearchParams(location.search);
  const search = el("input", { type: "search", maxlength: "100", size: "28", autocomplete: "off" });
  const state = el("select", {}, el("option", { value: "" }, "any state"),
    ...STATES.map((name) => el("option", { value: name }, name)));
  search.value = query.get("search") ?? "";
  state.value = STATES.includes(query.get("state")) ? query.get("state") : "";
  let page = Math.max(1, Number.parseInt(query.get("page"), 10) || 1);

  const counted = el("p", { class: "quiet", role: "status" });
  const runs = table("Runs, newest first", COLUMNS);
  const newer = el("button", { type: "button" }, "Newer");
  const older = el("button", { type: "button" }, "Older");
  const place = el("span", { class: "quiet" });
  const form = el("form", { class: "tools", role: "search" },
    el("label", {}, "Run or model", search), el("label", {}, "State", state));
  main.append(el("h1", {}, "Runs"), form, counted,
    el("div", { class: "sheet" },
      el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Runs" }, runs.whole),
      el("nav", { class: "pages", "aria-label": "Pages of runs" }, newer, older, place)));

  async function load() {
    const wanted = new URLSearchParams({ page: String(page) });
    if (search.value.trim()) wanted.set("search", search.value.trim());
    if (state.value) wanted.set("state", state.value);
    const found = await read(`/api/runs?${wanted}`);
    if (page > found.pages) {
      page = found.pages;
      return load();
    }
    history.replaceState(null, "", `/?${wanted}`);
    setText(counted, found.total === 1 ? "1 run" : `${found.total.toLocaleString("en")} runs`);
    setText(place, `page ${found.page} of ${found.pages}`);
    newer.disabled = page <= 1;
    older.disabled = page >= found.pages;
    follow(runs.body, found.runs, (run) => run.run, make, update);
    return undefined;
  }

  const live = new Live("/api/events", load).start();
  const from = (number) => {
    page = number;
    live.refresh();
  };
  form.addEventListener("submit", (event) => event.preventDefault());
  search.addEventListener("input", () => from(1));
  state.addEventListener("change", () => from(1));
  newer.addEventListener("click", () => from(page - 1));
  older.addEventListener("click", () => from(page + 1));
}

function make(run) {
  const bar = shareBar();
  const cells = {
    state: stateText(run.state), estimate: el("td", { class: "long" }),
    samples: el("td", { class: "number" }), rate: el("td", { class: "number" }),
    left: el("td", { class: "number" }), took: el("td", { class: "number" }),
    bar,
  };
  const row = el("tr", {},
    el("td", { class: "id" }, el("a", { href: `/runs/${encodeURIComponent(run.run)}` }, run.run)),
    el("td", {}, cells.state), el("td", {}, run.model), el("td", { class: "number" }, bar.whole),
    cells.estimate, cells.samples, cells.rate, cells.left, cells.took, el("td", {}, run.pool),
    el("td", { class: "number" }, timeText(run.created)));
  row.cellsOf = cells;
  return row;
}

function update(row, run) {
  const cells = row.cellsOf;
  setState(cells.state, run.state);
  cells.bar.show(run.share);
  setText(cells.estimate, run.error ?? [run.estimate, run.waits].filter(Boolean).join("\n"));
  setText(cells.samples, run.texts.samples);
  setText(cells.rate, run.texts.rate);
  setText(cells.left, run.texts.left);
  setText(cells.took, run.texts.elapsed);
}
