// A choice among very many: a list of the first ones whose names have what is typed beside it.

import { el, setText } from "./parts.js";

const LISTED = 200;
const TYPED_MILLISECONDS = 150;

/** `chosen` is called after each choice of a person; what is chosen stays until another one is. */
export class Choice {
  constructor(label, names, chosen) {
    this.names = names.map((name, number) => ({ name, number, text: name.toLowerCase() }));
    this.chosen = chosen;
    this.value = 0;
    this.list = el("select", {});
    this.search = el("input", { type: "search", maxlength: "100", autocomplete: "off" });
    this.told = el("span", { class: "quiet", role: "status" });
    this.list.addEventListener("change", () => this.choose(Number(this.list.value)));
    this.search.addEventListener("input", () => {
      clearTimeout(this.later);
      this.later = setTimeout(() => this.find(), TYPED_MILLISECONDS);
    });
    this.parts = [el("label", {}, label, this.list)];
    if (names.length > LISTED) {
      this.parts.push(el("label", {}, `Find a ${label.toLowerCase()}`, this.search), this.told);
    }
    this.show(this.names);
  }

  /** Choose the first of those that have the text that is typed; before them a number's own. */
  find() {
    const wanted = this.search.value.trim().toLowerCase();
    const having = this.names.filter(({ text }) => text.includes(wanted));
    const own = this.names[/^\d+$/.test(wanted) ? Number(wanted) : -1];
    const found = own === undefined ? having : [own, ...having.filter((one) => one !== own)];
    if (wanted !== "" && found.length > 0) this.choose(found[0].number);
    this.show(found);
  }

  choose(number) {
    if (number === this.value) return;
    this.value = number;
    this.chosen();
  }

  show(found) {
    const listed = found.slice(0, LISTED);
    const [shown, all] = [listed.length, found.length].map((count) => count.toLocaleString("en"));
    setText(this.told, found.length === 0 ? "none has this in its name" :
      found.length > LISTED ? `the first ${shown} of ${all} are listed` : `${all} found`);
    const chosen = this.names[this.value];
    if (!listed.includes(chosen)) listed.unshift(chosen);
    this.list.replaceChildren(...listed.map(({ name, number }) => (
      el("option", { value: String(number), selected: number === this.value }, name))));
  }
}
