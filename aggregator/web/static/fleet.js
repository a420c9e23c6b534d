// The consumers that were heard of in the last minutes, live.

import { el, follow, setState, setText, stateText, table } from "./parts.js";
import { Live, read } from "./source.js";

const COLUMNS = [
  { name: "consumer" }, { name: "host" }, { name: "pool" }, { name: "state" }, { name: "reason" },
  { name: "slots", right: true }, { name: "busy", right: true }, { name: "samples/s", right: true },
  { name: "last seen", right: true }, { name: "version" },
];

export function show(main) {
  const counted = el("p", { class: "quiet" });
  const refused = el("p", { class: "problem", role: "alert", hidden: true });
  const audits = el("p", { class: "quiet" });
  const fleet = table("Consumers, those first that not all is well with", COLUMNS);
  main.append(el("h1", {}, "Fleet"), counted, refused, el("div", { class: "sheet" },
    el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Fleet" }, fleet.whole)),
  audits);
  document.title = "Fleet · montemq";
  new Live("/api/fleet/events", async () => {
    const found = await read("/api/fleet");
    setText(counted, found.text);
    setText(audits, found.audits);
    refused.hidden = found.refused_hosts.length === 0;
    setText(refused, `Refused, because they sent wrong numbers: ${found.refused_hosts.join(", ")}`);
    follow(fleet.body, found.consumers, (one) => one.consumer, make, update);
  }).start();
}

function make(one) {
  const state = stateText(one.state);
  const texts = ["host", "pool", "reason", "slots", "busy", "rate", "seen", "version"];
  const numbers = new Set(["slots", "busy", "rate", "seen"]);
  const cells = Object.fromEntries(texts.map((name) => (
    [name, el("td", { class: numbers.has(name) ? "number" : name === "reason" ? "long" : "id" })]
  )));
  const row = el("tr", {}, el("td", { class: "id" }, one.consumer), cells.host, cells.pool,
    el("td", {}, state), cells.reason, cells.slots, cells.busy, cells.rate, cells.seen,
    cells.version);
  row.cellsOf = { ...cells, state };
  return row;
}

function update(row, one) {
  const cells = row.cellsOf;
  setState(cells.state, one.state);
  for (const name of ["host", "pool", "reason", "version"]) setText(cells[name], one[name]);
  for (const name of ["busy", "rate"]) setText(cells[name], one.texts[name]);
  setText(cells.slots, String(one.slots));
  setText(cells.seen, `${one.silent_seconds.toFixed(0)} s ago`);
}
