// The latest decisions, and one of them: what was shown, what each task added to its score, which fields moved it.

import { ask } from "./ask.js";
import { badge, count, empty, facts, h, moment, number, section, signed, table, under } from "./make.js";

export const decisions = {
  title: "Decisions",
  every: 5,
  read: async ([request]) => (request ? ask(`/v1/decisions/${encodeURIComponent(request)}`) : (await ask("/v1/decisions?limit=50")).decisions),
  show: (content, again, [request]) => (request ? one(content) : section("Latest decisions", listed(content))),
};

function listed(list) {
  if (!list.length) {
    return empty("Nothing was decided yet.", "Ask for a ranking: ", h("code", {}, "POST /v1/rank"), " with ", h("code", {}, '{"user_id": "7", "items": ["1", "2", "3"]}'), ".");
  }
  const rows = list.map((one) => [
    h("a", { href: `#/decisions/${encodeURIComponent(one.request_id)}`, id: `d${one.request_id}` }, moment(one.time)),
    one.user_id ?? h("span", { class: "mute" }, "nobody"),
    one.top.join(" · ") + (one.shown > one.top.length ? " …" : ""),
    count(one.shown),
    one.rung === "full" ? one.rung : badge(one.rung, "warn"),
    one.arm,
    h("code", {}, one.bundle),
    h("code", {}, one.fusion),
  ]);
  return table("Latest decisions, the latest first", [
    "when", ["user", "left"], ["from the top", "left"], ["shown", "wide"], ["rung", "left"], ["arm", "left"], ["bundle", "wide left"], ["fusion", "wide left"],
  ], rows);
}

/** One decision: about it, its items with what each task added, and which fields moved each of them. */
function one(decision) {
  const about = facts([
    ["when", moment(decision.time)], ["user", decision.user_id ?? "nobody"], ["answered by", `${decision.arm} ${decision.bundle}`],
    ["fusion", decision.fusion], ["rung", decision.rung],
    ["shown", decision.candidates === null ? count(decision.shown) : `${count(decision.shown)} of ${count(decision.candidates)}`],
    ["temperature", decision.temperature === null ? "none" : `${+decision.temperature.toPrecision(3)}`],
  ]);
  const asked = h("details", { open: true }, h("summary", {}, "Fields of the request"), given(decision.fields));
  return [
    h("p", {}, h("a", { href: "#/decisions", id: "back" }, "← Latest decisions")),
    section(`Decision ${decision.request_id}`, about, asked),
    section("What each task added to the score", added(decision)),
    section("Which fields moved the predictions", moved(decision)),
  ];
}

const given = (fields) =>
  Object.keys(fields).length ? h("dl", {}, Object.entries(fields).map(([name, value]) => [h("dt", {}, name), h("dd", {}, JSON.stringify(value))]).flat())
    : h("p", { class: "mute" }, "None.");

function added(decision) {
  if (decision.no_contributions) return empty("Not known.", `${decision.no_contributions}.`);
  const tasks = Object.keys(decision.items[0].contributions);
  const swatch = (at) => h("svg", { class: "swatch", viewBox: "0 0 10 10", "aria-hidden": "true" }, h("rect", { class: `c${at % 6}`, width: 10, height: 10, rx: 2 }));
  const parts = decision.items.map((item) => Object.values(item.contributions));
  const ends = [Math.min(0, ...parts.map((own) => sum(own, (one) => Math.min(one, 0)))), Math.max(1e-12, ...parts.map((own) => sum(own, (one) => Math.max(one, 0))))];
  const rows = decision.items.map((item, at) => [
    [`${at + 1}. ${item.item_id}`, item.sources.length ? under(`by ${item.sources.join(", ")}`) : null], [number(item.score), bar(parts[at], ends)],
    ...tasks.map((task) => [signed(item.contributions[task]), under(`predicted ${number(item.predictions[task])}`)]),
    item.propensity === null ? "" : number(item.propensity),
  ]);
  const exact = decision.gap < 1e-9 ? "Contributions add up to each logged score." : `Contributions miss the logged scores by up to ${number(decision.gap)}.`;
  const more = decision.shown > decision.items.length ? ` The first ${decision.items.length} of ${count(decision.shown)} items.` : "";
  return [
    table("Contributions of the tasks, item by item", ["item", "score", ...tasks.map((task, at) => [[swatch(at), ` ${task}`], ""]), "chance of this place"], rows),
    h("p", { class: "mute" }, exact + more),
  ];
}

const sum = (values, part) => values.reduce((total, one) => total + part(one), 0);

/** Contributions end to end, what lowers the score to the left of the line. */
function bar(parts, [low, high]) {
  const scale = 110 / (high - low);
  let [left, right] = [-low * scale, -low * scale];
  const drawn = parts.map((one, at) => {
    const width = Math.abs(one) * scale;
    const x = one < 0 ? (left -= width) : (right += width) - width;
    return h("rect", { class: `c${at % 6}`, x, y: 2, width, height: 8 });
  });
  return h("svg", { class: "bar", viewBox: "0 0 110 12", "aria-hidden": "true" }, drawn, h("line", { class: "axis", x1: -low * scale, x2: -low * scale, y1: 0, y2: 12 }));
}

function moved(decision) {
  if (decision.no_moved) return empty("Not known.", `${decision.no_moved}.`);
  const columns = Object.keys(decision.base);
  return [
    h("p", { class: "mute" }, "What each field added to a prediction of the mean training row, before calibration; fields and base add up to the prediction."),
    ...decision.items.map((item, at) => h("details", { open: at === 0 }, h("summary", {}, `${at + 1}. ${item.item_id}`), fields(decision, item, columns))),
  ];
}

function fields(decision, item, columns) {
  const size = (field) => sum(columns, (column) => Math.abs(item.moved[column][field]));
  const names = Object.keys(item.moved[columns[0]]).sort((one, other) => size(other) - size(one));
  const value = (name) => { const found = { ...decision.fields, ...item.fields }[name]; return found === undefined ? null : under(JSON.stringify(found)); };
  const total = (column) => decision.base[column] + sum(names, (name) => item.moved[column][name]);
  const rows = [
    ...names.map((name) => [[name, value(name)], ...columns.map((column) => signed(item.moved[column][name]))]),
    [h("span", { class: "mute" }, "base: the mean row"), ...columns.map((column) => signed(decision.base[column]))],
    ["prediction", ...columns.map((column) => h("b", {}, signed(total(column))))],
  ];
  return table(`Fields that moved item ${item.item_id}`, ["field", ...columns.map((column) => [[column, under(decision.units[column])], ""])], rows);
}
