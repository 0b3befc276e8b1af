// How the bundles do: quality and calibration by the latest settled labels, drift of fields and predictions, what somebody should look at.

import { ask, Refused } from "./ask.js";
import { along, badge, card, count, empty, facts, h, measured, moment, number, section, table, under } from "./make.js";

const COLUMNS = { auc: "AUC", gauc: "AUC inside users", ne: "NE", rmse: "RMSE", mae: "MAE", gini: "Gini", d2: "share explained",
  coverage: "coverage", calibration_ratio: "predicted / observed" };

export const quality = {
  title: "Quality",
  every: 10,
  read: async () => ({ now: await ask("/v1/bundles"), found: await ask("/v1/monitor").catch(absent) }),
  show: ({ now, found }) => {
    if (!found || found.time === null) {
      return section("Now", answering(now), empty("Nothing was looked at yet.", "The service looks at its latest decisions and settled labels at an interval; ",
        "the first look is still to come. Tasks need rules of feedback in the run file (", h("code", {}, 'feedback = { window = "30m", … }'),
        "), and events: ", h("code", {}, "POST /v1/events"), "."));
    }
    const alarms = found.findings.filter((one) => one.alarm);
    const quiet = found.findings.filter((one) => !one.alarm);
    return [
      section("Now", answering(now), verdict(alarms, found)),
      section("Quality by settled labels", figures(found.quality)),
      found.quality.length ? section("Calibration", h("div", { class: "grid" }, found.quality.map(reliability))) : null,
      section("What is watched", watched([...alarms, ...quiet])),
    ];
  },
};

/** A service that does not watch has no such route. */
function absent(error) {
  if (error instanceof Refused && error.status === 404) return null;
  throw error;
}

const whom = (label, now) => (label === "canary" ? `canary, ${+(100 * now.share).toPrecision(3)} % of users` : label);

const answering = (now) => facts(Object.entries(now.labels).map(([label, one]) => [whom(label, now), one.bundle]));

function verdict(alarms, found) {
  const looked = h("p", { class: "mute" }, `${count(found.findings.length)} things watched, looked at `, moment(found.time), ".");
  if (!alarms.length) return card(h("p", { class: "good" }, h("b", {}, "Quiet.")), looked);
  return card(h("p", { class: "warn" }, h("b", {}, alarms.length === 1 ? "Somebody should look at this:" : `Somebody should look at these ${alarms.length}:`)),
    h("ul", {}, alarms.map((one) => h("li", {}, one.says))), looked);
}

function figures(list) {
  if (!list.length) return empty("No label is settled yet.", "A label is settled when its window and the lateness have passed by the clock of the events.");
  const names = Object.keys(COLUMNS).filter((name) => list.some((one) => name in one));
  const of = (one) => (one.positives === null ? count(one.rows) : `${count(one.positives)} of ${count(one.rows)}`);
  const rows = list.map((one) => [
    [one.task, under(one.label)], ...names.map((name) => measured(one[name])), [of(one), under(`${count(one.users)} users`)],
  ]);
  return [
    table("Quality by settled labels", ["task", ...names.map((name) => COLUMNS[name]), "positives of rows"], rows),
    h("p", { class: "mute" }, "By what was predicted when it was shown. Intervals: 95 %, users drawn again. NE below 1: better than always saying the base rate. ",
      "Predicted / observed of 1 is right. A number is judged where its label is known, in its own unit."),
  ];
}

/** Mean prediction against what happened, in bins of equal mass; on the line it is right. */
function reliability(one) {
  const [size, edge] = [200, 26];
  const met = one.curve.flatMap((point) => [point.predicted, point.observed]);
  const [least, most] = [Math.min(0, ...met), Math.max(1e-9, ...met)];
  const x = (value) => edge + along(value, least, most, size - edge - 8);
  const y = (value) => size - edge - along(value, least, most, size - edge - 8);
  const said = `Calibration of ${one.task}, ${one.label}: ${one.curve.map((point) => `${number(point.predicted)} predicted, ${number(point.observed)} observed`).join("; ")}`;
  const path = one.curve.map((point, at) => `${at ? "L" : "M"}${x(point.predicted)} ${y(point.observed)}`).join("");
  return card(h("h3", {}, one.task, badge(one.label)), h("svg", { viewBox: `0 0 ${size} ${size}`, role: "img", "aria-label": said },
    h("line", { class: "axis", x1: edge, x2: size - 8, y1: y(least), y2: y(least) }), h("line", { class: "axis", x1: edge, x2: edge, y1: 8, y2: y(least) }),
    h("line", { class: "guide", x1: x(least), y1: y(least), x2: x(most), y2: y(most) }), h("path", { class: "line", d: path }),
    one.curve.map((point) => h("circle", { class: "c0", cx: x(point.predicted), cy: y(point.observed), r: 2.5 })),
    h("text", { x: size - 8, y: size - 8, "text-anchor": "end" }, `predicted, to ${number(most)}`),
    h("text", { x: 2, y: 8 + 10, transform: "rotate(-90 12 18)", "text-anchor": "end" }, "observed")));
}

function watched(findings) {
  if (!findings.length) return empty("Nothing yet.", "Drift needs requests: 200 or more to judge by.");
  const rows = findings.map((one) => [
    one.what, one.alarm ? badge("look", "warn") : h("span", { class: "good" }, "quiet"), one.says.startsWith(`${one.what}: `) ? one.says.slice(one.what.length + 2) : one.says,
  ]);
  return table("What is watched", ["what", ["state", "left"], ["found", "left"]], rows);
}
