// Parts of the page: elements, tables, numbers with their intervals. Text is always set as text, never read as markup.

const SVG = "http://www.w3.org/2000/svg";
const DRAWN = new Set(["svg", "line", "rect", "path", "circle", "text", "g", "title"]);

/** An element: attributes, listeners (keys that begin with "on"), and children, which are nodes or texts. */
export function h(tag, attributes = {}, ...children) {
  const made = DRAWN.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((one) => one !== null && one !== undefined));
  return made;
}

/** A heading and what stands under it. */
export const section = (title, ...parts) => h("section", {}, h("h2", {}, title), ...parts);

const words = (title) => [title].flat().filter((one) => typeof one === "string").join("").trim();

/** A table that scrolls sideways; columns are titles, or [title, class]; rows are lists of cells, the first names the row. */
export function table(caption, columns, rows) {
  const named = columns.map((one) => (Array.isArray(one) ? one : [one, ""]));
  const head = h("tr", {}, named.map(([title, kind]) => h("th", { scope: "col", class: kind || null }, title)));
  const cell = (content, at) =>
    h(at ? "td" : "th", { scope: at ? null : "row", class: named[at][1] || null, "data-title": words(named[at][0]) }, content);
  const lines = rows.map((row) => h("tr", {}, row.map(cell)));
  return h("div", { class: "card scroll", tabindex: 0, role: "region", "aria-label": caption },
    h("table", {}, h("caption", { class: "hidden" }, caption), h("thead", {}, head), h("tbody", {}, lines)));
}

/** A framed part. */
export const card = (...parts) => h("div", { class: "card" }, ...parts);

/** What stands where there is nothing to show: what it is, and what to do next. */
export const empty = (what, ...next) => card(h("p", {}, h("b", {}, what)), h("p", { class: "mute" }, ...next));

/** Small, muted words under a value. */
export const under = (...words) => h("small", {}, ...words);

/** Short facts in a row. */
export const facts = (entries) =>
  h("ul", { class: "facts" }, entries.map(([name, value]) => h("li", {}, h("b", {}, value), h("span", { class: "mute" }, name))));

export const badge = (text, kind = "mute") => h("span", { class: `badge ${kind}` }, text);

/** Four decimals for what is near 1, four digits for what is far from it. */
export function number(value) {
  const size = Math.abs(value);
  const minus = value < 0 ? "−" : "";
  if (size >= 1000) return minus + Math.round(size).toLocaleString("en");
  if (size >= 10) return minus + size.toFixed(2);
  return minus + (size >= 0.0005 || !size ? size.toFixed(4) : size.toExponential(1).replace("-", "−"));
}

export const signed = (value) => (value <= 0 ? number(value) : `+${number(value)}`);

/** The ends of a scale, in digits enough to tell one from the other. */
export const ends = (low, high) => (number(low) === number(high) && low !== high ? [low.toPrecision(6), high.toPrecision(6)] : [number(low), number(high)]);

export const count = (value) => value.toLocaleString("en");

/** A measured figure: its value and interval, or a dash and the reason why there is none. */
export function measured(one) {
  if (!one) return "";
  if (one.value === null) return [h("span", {}, "—"), h("small", { class: "reason" }, one.reason || "")];
  const bounds = one.low === null ? one.reason || "" : `${number(one.low)} – ${number(one.high)}`;
  return [number(one.value), bounds ? under(bounds) : null];
}

/** The part of a drawing that stands for a number among others: where it lies between the ends, of a length. */
export const along = (value, low, high, length) => (high > low ? ((value - low) / (high - low)) * length : length / 2);

/** A moment, in the reader's own zone, without its day if that is today; the title says it in UTC. */
export function moment(milliseconds) {
  const at = new Date(milliseconds);
  const [day, time] = at.toLocaleString("sv-SE").split(" ");
  const today = new Date().toLocaleString("sv-SE").startsWith(day);
  return h("time", { datetime: at.toISOString(), title: at.toISOString() }, today ? time : `${day} ${time}`);
}

/** Ask before something is changed; whether it was agreed to. */
export function agreed(question, yes) {
  return new Promise((answer) => {
    const dialog = h("dialog", { "aria-labelledby": "question", onclose: () => (dialog.remove(), answer(dialog.returnValue === "yes")) },
      h("form", { method: "dialog" }, h("p", { id: "question" }, question),
        h("div", { class: "row" }, h("button", { value: "no", autofocus: true }, "Cancel"), h("button", { value: "yes", class: "strong" }, yes))));
    document.body.append(dialog);
    dialog.showModal();
  });
}
