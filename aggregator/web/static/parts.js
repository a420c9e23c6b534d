// Elements of pages. Whatever was named by users or came in messages enters as text, never as markup.

/** Make an element; `attributes` are set as they are, children are elements or texts. */
export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "on") {
      for (const [event, listener] of Object.entries(value)) made.addEventListener(event, listener);
    } else if (value !== null && value !== false) {
      made.setAttribute(key, value === true ? "" : value);
    }
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** Set a text only where it changed, so that selections and screen readers are left in peace. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Make a table with a caption; columns are `{name, right}`. */
export function table(caption, columns) {
  const head = el("tr", {}, ...columns.map((column) => (
    el("th", { scope: "col", class: column.right ? "number" : null }, column.name)
  )));
  const body = el("tbody");
  const text = el("caption", {}, el("span", { class: "hidden" }, caption));
  const whole = el("table", {}, text, el("thead", {}, head), body);
  return { body, head, whole };
}

/** Make the rows of a body follow a list: kept by key, in order, so that focus stays where it is. */
export function follow(body, items, keyOf, make, update) {
  const known = body.known ??= new Map();
  const wanted = new Set(items.map(keyOf));
  for (const [key, row] of known) {
    if (!wanted.has(key)) {
      row.remove();
      known.delete(key);
    }
  }
  let place = body.firstChild;
  for (const item of items) {
    const key = keyOf(item);
    let row = known.get(key);
    if (row === undefined) known.set(key, row = make(item));
    if (row === place) place = place.nextSibling;
    else body.insertBefore(row, place);
    update(row, item);
  }
}

/** Return the state of a run or consumer, in words and in colour. */
export function stateText(state) {
  return el("span", { class: "state", "data-state": state }, state);
}

export function setState(element, state) {
  element.dataset.state = state;
  setText(element, state);
}

/** A bar for the eye; the share stands beside it as text. */
export function shareBar() {
  const bar = el("progress", { max: "1", value: "0", "aria-hidden": "true" });
  const text = el("span", { class: "share" });
  const whole = el("span", {}, bar, " ", text);
  return { whole, show: (share) => {
    bar.value = share;
    setText(text, `${(100 * share).toFixed(1)}%`);
  } };
}

/** Return when something was, for people, and exactly. */
export function timeText(seconds) {
  const date = new Date(1000 * seconds);
  const text = date.toLocaleString(undefined,
    { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });
  return el("time", { datetime: date.toISOString(), title: date.toISOString() }, text);
}
