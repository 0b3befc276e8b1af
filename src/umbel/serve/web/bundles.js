// Which bundles answer, with promote and rollback, and what was changed before, by whom.

import { ask } from "./ask.js";
import { canaryForm, percent } from "./canary.js";
import { agreed, badge, count, empty, h, measured, moment, section, table, under } from "./make.js";

const TITLES = { auc: "AUC", ne: "NE", calibration_ratio: "predicted / observed", rmse: "RMSE", mae: "MAE" };
const SAYS = { stable: "answers", canary: "answers some", shadow: "answers nobody, is counted" };

export const bundles = {
  title: "Bundles",
  every: 5,
  read: async () => {
    const now = await ask("/v1/bundles");
    const reports = await Promise.all(Object.keys(now.labels).map(async (label) => [label, await ask(`/v1/bundles/${label}/report`)]));
    return { now, reports, audit: (await ask("/v1/audit?limit=50")).notes };
  },
  show: ({ now, audit, reports }, again) => [
    section("In service", inService(now), actions(now, again)),
    now.labels.canary ? null : section("Try another bundle on some users", canaryForm(now.labels.stable, tasks(reports), again)),
    section("Their runs, judged on test rows", reports.map(([label, one]) => report(label, one))),
    section("History", history(audit)),
  ],
};

/** The tasks of the bundle that answers. */
const tasks = (reports) => reports.filter(([label]) => label === "stable").flatMap(([, one]) => Object.keys(one.tasks));

/** What a run's report says of each task; the whole of it is a page to keep. */
function report(label, one) {
  const tasks = Object.entries(one.tasks);
  const names = [...new Set(tasks.flatMap(([, task]) => Object.keys(TITLES).filter((name) => name in task)))];
  const rows = tasks.map(([name, task]) => [
    [name, task.given ? under(`where ${task.given} holds`) : null], ...names.map((metric) => measured(task[metric])),
    [task.positives === null ? count(task.rows) : `${count(task.positives)} of ${count(task.rows)}`],
  ]);
  const said = h("p", { class: "warn", role: "alert" });
  return h("div", {}, h("h3", {}, `${label}: ${one.recipe}, seed ${one.seed}, ${count(one.parameters)} parameters`),
    table(`The run of the ${label} bundle`, ["task", ...names.map((metric) => TITLES[metric]), "positives of rows"], rows),
    h("div", { class: "row" }, h("button", { type: "button", class: "quiet", id: `report-${label}`, onclick: () => keep(label, said) }, "Save the whole report"), said));
}

/** The report's page as a file: asked for under the key, which no plain link would send. */
async function keep(label, said) {
  try {
    const page = await ask(`/v1/bundles/${label}/report.html`, { text: true });
    const address = URL.createObjectURL(new Blob([page], { type: "text/html" }));
    h("a", { href: address, download: `report-${label}.html` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  } catch (error) {
    said.textContent = error.message;
  }
}

function inService(now) {
  const rows = Object.entries(now.labels).map(([label, one]) => [
    [label, under(label === "canary" ? `answers ${percent(now.share)} of users` : SAYS[label])],
    h("code", {}, one.bundle), [h("code", {}, one.fusion), one.own ? under(`over its own, ${one.own}`) : null], h("span", { class: "path" }, one.folder),
  ]);
  return table("Bundles in service", ["label", ["bundle", "left"], ["fusion", "left"], ["folder", "left"]], rows);
}

/** What may be done now; each asks first, and says what it will do. */
function actions(now, again) {
  const said = h("p", { class: "warn", role: "alert" });
  const { stable, canary, shadow } = now.labels;
  const act = (label, name, path, question, method = "POST") =>
    h("button", { type: "button", id: name, onclick: () => change(said, again, { question, yes: label, path, method }) }, label);
  const possible = [
    canary && act("Promote the canary", "promote", "/v1/bundles:promote", `Answer everybody by ${canary.bundle}, the canary, instead of ${stable.bundle}?`),
    now.previous && act("Roll back", "rollback", "/v1/bundles:rollback", `Go back from ${stable.bundle} to ${now.previous}${canary ? ", and drop the canary" : ""}?`),
    canary && act("Drop the canary", "drop-canary", "/v1/bundles/canary", `Answer nobody by ${canary.bundle} any more?`, "DELETE"),
    shadow && act("Drop the shadow", "drop-shadow", "/v1/bundles/shadow", `Let ${shadow.bundle} shadow no request any more?`, "DELETE"),
  ].filter(Boolean);
  return h("div", {}, possible.length ? h("div", { class: "row" }, possible) : null, said);
}

async function change(said, again, { question, yes, path, method }) {
  if (!(await agreed(question, yes))) return;
  try {
    await ask(path, { method, body: method === "POST" ? {} : undefined });
    said.textContent = "";
  } catch (error) {
    said.textContent = error.message;
    return;
  }
  again();
}

function history(audit) {
  if (!audit.length) return empty("Nothing was changed yet.", "Every change of bundles and fusions, and every refusal, is listed here.");
  const rows = audit.map((one) => [moment(one.time), refusal(one.action), one.actor, detail(one.detail)]);
  return table("Changes, the latest first", ["when", ["what", "left"], ["who", "left"], ["with", "left"]], rows);
}

const refusal = (action) => (action.startsWith("refused: ") ? [badge("refused", "warn"), " ", action.slice(9)] : action);

const detail = (given) => Object.entries(given).filter(([, value]) => value !== null).map(([name, value]) =>
  h("div", {}, h("span", { class: "mute" }, `${name} `), h("span", { class: "path" }, String(value))));
