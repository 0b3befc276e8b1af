// The policy that ranks, with a slider for each task: what it would do with the latest requests, and what one weight trades for what.

import { ask } from "./ask.js";
import { agreed, along, badge, card, count, empty, ends, h, number, section, signed, table, under } from "./make.js";

const REACH = 4;  // powers of two that a slider goes up and down
const TOPS = [1, 3, 5, 10, 20];

export const fusion = {
  title: "Fusion",
  every: 0,
  read: async () => ({ policy: await ask("/v1/fusion"), stable: (await ask("/v1/bundles")).labels.stable }),
  show: ({ policy, stable }, again) => {
    const tried = { factors: Object.fromEntries(Object.keys(policy.tasks).map((task) => [task, 1])), top: 5, sweep: Object.keys(policy.tasks)[0] };
    const result = h("div", { "aria-live": "polite" }, h("p", { class: "mute" }, "Choosing again …"));
    const said = h("p", { class: "warn", role: "alert" });
    const look = later(200, () => preview(policy, tried, result));
    look();
    return [
      section("The policy in force",
        h("p", {}, h("b", {}, policy.name), ", of the family ", h("b", {}, policy.family), ". Move a task's weight to see what it would do; ",
          "nothing changes until it is put in force.",
          stable.own ? [" It was put in force over ", h("code", {}, stable.own), ", the bundle's own, and ranks every other bundle, too."] : null),
        card(Object.entries(policy.tasks).map(([task, own]) => slider(task, own, tried, look)), choices(policy, tried, look)),
        h("div", { class: "row" },
          h("button", { type: "button", class: "strong", id: "activate", onclick: () => activate(policy, tried, said, again) }, "Put in force"),
          h("button", { type: "button", id: "reset", onclick: () => again(true) }, "Back to the policy in force"),
          stable.own ? h("button", { type: "button", id: "deactivate", onclick: () => deactivate(stable, said, again) }, "Back to the bundles' own") : null), said),
      result,
    ];
  },
};

/** One task's weight, from nothing over itself to many times as much. */
function slider(task, own, tried, look) {
  const told = h("output", { for: `w-${task}`, id: `o-${task}` }, "× 1");
  const move = (event) => {
    const at = Number(event.target.value);
    tried.factors[task] = at <= -REACH ? 0 : 2 ** at;
    told.textContent = `× ${+tried.factors[task].toPrecision(3)}`;
    event.target.setAttribute("aria-valuetext", `${told.textContent.slice(2)} times its weight`);
    look();
  };
  return h("div", { class: "slide" }, h("label", { for: `w-${task}` }, task, own.direction < 0 ? badge("unwanted") : null),
    h("input", { type: "range", id: `w-${task}`, min: -REACH, max: REACH, step: 0.25, value: 0, "aria-valuetext": "1 times its weight", oninput: move }), told);
}

function choices(policy, tried, look) {
  const set = (name, kind) => (event) => { tried[name] = kind(event.target.value); look(); };
  const options = (values, chosen) => values.map((one) => h("option", { value: one, selected: one === chosen }, one));
  return h("div", { class: "row choices" },
    h("label", { for: "top" }, "first items"), h("select", { id: "top", onchange: set("top", Number) }, options(TOPS, tried.top)),
    h("label", { for: "sweep" }, "trade-off of"), h("select", { id: "sweep", onchange: set("sweep", String) }, options(Object.keys(policy.tasks), tried.sweep)));
}

/** The policy with every weight times its factor; of a family of broken lines, all their steps. */
function weighed(policy, factors) {
  const tasks = Object.entries(policy.tasks).map(([task, own]) => {
    const changed = own.increments ? { increments: own.increments.map((one) => one * factors[task]) } : { weight: (own.weight ?? 1) * factors[task] };
    return [task, { ...own, ...changed }];
  });
  return { ...policy, tasks: Object.fromEntries(tasks) };
}

async function preview(policy, tried, result) {
  try {
    const found = await ask("/v1/fusion:preview", { method: "POST", body: { policy: weighed(policy, tried.factors), top: tried.top, sweep: tried.sweep } });
    result.replaceChildren(...drawn(found, tried));
  } catch (error) {
    result.replaceChildren(h("div", { class: "card warn", role: "alert" }, error.message));
  }
}

function drawn(found, tried) {
  if (!found.decisions) return [empty("Nothing to choose again.", "Rank something first: decisions of the stable bundle keep what they chose from.")];
  const others = Object.keys(found.tasks).filter((task, _, all) => task !== tried.sweep || all.length === 1);
  const share = `${+(100 * found.changed).toPrecision(2)} %`;
  const rows = Object.entries(found.tasks).map(([task, one]) => [
    task, number(one.now), number(one.then), [h("b", {}, signed(one.change)), under(one.low === null ? one.reason : `${signed(one.low)} – ${signed(one.high)}`)],
  ]);
  const lists = found.examples.map((one) => [
    h("a", { href: `#/decisions/${encodeURIComponent(one.request_id)}` }, one.user_id ?? "nobody"), one.now.join(" · "), marked(one.then, one.now),
  ]);
  return [
    section("What it would do",
      h("p", {}, `Of the latest ${count(found.decisions)} requests (${count(found.candidates)} candidates), `, h("b", { id: "changed" }, share),
        ` would get other first ${found.top}.`),
      table(`Mean prediction of the first ${found.top}`, ["mean prediction of the first items", "in force", "tried", "change"], rows),
      h("p", { class: "mute" }, "Of predictions, not of what will happen: ", h("code", {}, "umbel fuse --replay"), " judges by what did. ",
        "By the score alone, without temperature or diversity. 95 % over users.")),
    lists.length ? section("First items of some of them", table("First items, in force and tried", [["user", "left"], ["in force", "left"], ["tried", "left"]], lists)) : null,
    section(`What the weight of ${tried.sweep} trades`,
      h("div", { class: "grid" }, others.map((task) => front(found.front, tried.sweep, task))),
      h("p", { class: "mute" }, "Mean predictions as the tried weight goes from 0 to 8 times itself; the ring is the policy tried, hollow points are beaten in every task.")),
  ].filter(Boolean);
}

const marked = (then, now) => then.flatMap((item, at) => [at ? " · " : "", item === now[at] ? item : h("b", { class: now.includes(item) ? null : "new" }, item)]);

/** One task against the swept one, a point a factor. */
function front(points, sweep, task) {
  const [width, height, edge] = [260, 160, 56];
  const [xs, ys] = [sweep, task].map((name) => points.map((one) => one.tasks[name]));
  const foot = height - 36;
  const x = (value) => edge + along(value, Math.min(...xs), Math.max(...xs), width - edge - 14);
  const y = (value) => foot - along(value, Math.min(...ys), Math.max(...ys), foot - 14);
  const [[left, right], [bottom, top]] = [ends(Math.min(...xs), Math.max(...xs)), ends(Math.min(...ys), Math.max(...ys))];
  const said = `${task} against ${sweep}: ${points.map((one) => `× ${one.factor}: ${number(one.tasks[sweep])}, ${number(one.tasks[task])}`).join("; ")}`;
  const path = points.map((one, at) => `${at ? "L" : "M"}${x(one.tasks[sweep])} ${y(one.tasks[task])}`).join("");
  const dots = points.map((one) => h("g", {}, h("title", {}, `× ${one.factor}: ${sweep} ${number(one.tasks[sweep])}, ${task} ${number(one.tasks[task])}`),
    one.factor === 1 ? h("circle", { class: "ring", cx: x(one.tasks[sweep]), cy: y(one.tasks[task]), r: 7 }) : null,
    h("circle", { class: one.best ? "c0" : "beaten", cx: x(one.tasks[sweep]), cy: y(one.tasks[task]), r: 3.5 })));
  return card(h("h3", {}, task), h("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": said },
    h("line", { class: "axis", x1: edge - 10, x2: width, y1: foot + 10, y2: foot + 10 }), h("line", { class: "axis", x1: edge - 10, x2: edge - 10, y1: 4, y2: foot + 10 }),
    h("path", { class: "line", d: path }), dots,
    h("text", { x: edge, y: height - 6, "text-anchor": "middle" }, left), h("text", { x: (edge + width) / 2, y: height - 6, "text-anchor": "middle" }, sweep),
    h("text", { x: width - 4, y: height - 6, "text-anchor": "end" }, right), h("text", { x: 0, y: 18 }, top), h("text", { x: 0, y: foot + 4 }, bottom)));
}

async function activate(policy, tried, said, again) {
  const new_ = weighed(policy, tried.factors);
  const told = Object.entries(tried.factors).filter(([, factor]) => factor !== 1).map(([task, factor]) => `${task} × ${+factor.toPrecision(3)}`).join(", ");
  if (!told) {
    said.textContent = "nothing was moved; move a slider first";
    return;
  }
  if (!(await agreed(`Rank everybody by this policy from now on (${told})?`, "Put in force"))) return;
  await done({ method: "PUT", body: new_ }, said, again);
}

/** Rank by what the bundles carry. */
async function deactivate(stable, said, again) {
  if (!(await agreed(`Rank everybody by what each bundle carries from now on, by ${stable.own} instead of ${stable.fusion}?`, "Back to the bundles' own"))) return;
  await done({ method: "DELETE" }, said, again);
}

async function done(change, said, again) {
  try {
    await ask("/v1/fusion", change);
  } catch (error) {
    said.textContent = error.message;
    return;
  }
  again(true);
}

/** A call that waits until nobody has asked again for so many milliseconds. */
function later(milliseconds, act) {
  let timer = 0;
  return () => { clearTimeout(timer); timer = setTimeout(act, milliseconds); };
}
