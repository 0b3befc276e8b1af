// The form that lets another bundle answer some users, under a guard: nothing is done before it was agreed to.

import { ask } from "./ask.js";
import { agreed, card, h } from "./make.js";

const typed = { folder: "", share: "5", session: "10m" }; // kept here: the view is drawn anew whenever something changes

/** A form for a service that has no canary; `tasks` are those that may be guarded. */
export function canaryForm(stable, tasks, again) {
  const said = h("p", { class: "warn", role: "alert" });
  const start = h("button", { class: "strong", id: "start-canary" }, "Start the canary");
  const send = async (event) => {
    event.preventDefault();
    await begin(asked(tasks), { said, start, again });
  };
  const example = stable.folder.split("/").slice(-2).join("/");
  return card(h("form", { id: "canary", novalidate: true, "aria-label": "Start a canary", onsubmit: send },
    h("div", { class: "ask" },
      field("folder", "Folder of the bundle", `such as ${example}, under the root of bundles`),
      field("share", "Share of users, %", "always the same users while the share stays", "decimal"),
      field("session", "A user counts by a first", "a duration: 30s, 10m, 2h")),
    h("details", { open: tasks.some((task) => typed[keeps(task)]) }, h("summary", {}, "Guard: when it is dropped"),
      h("p", { class: "mute" }, "It is dropped once it is shown to keep less of the stable bundle's figure than stands here. With all left empty, every task that ",
        "events say yes or no to is to keep 100 %; with some filled in, those alone are guarded."),
      h("div", { class: "ask" }, tasks.map((task) => field(keeps(task), `Keep of ${task}, %`, null, "decimal")))),
    h("div", { class: "row" }, start), said));
}

const keeps = (task) => `keep-${task}`;

function field(name, label, hint, mode = "text") {
  const about = hint ? `${name}-hint` : null;
  return h("div", {}, h("label", { for: name }, label),
    h("input", {
      id: name, type: "text", inputmode: mode, autocomplete: "off", spellcheck: "false", value: typed[name] ?? "", "aria-describedby": about,
      oninput: (event) => { typed[name] = event.target.value; },
    }), hint ? h("small", { id: about }, hint) : null);
}

/** What was typed as the service is asked it, or what is wrong with it, and where. */
function asked(tasks) {
  const folder = typed.folder.trim();
  if (!folder) return { wrong: "folder: is empty; name the folder of a bundle", at: "folder" };
  const share = part(typed.share);
  if (share === null) return { wrong: `share: "${typed.share}" is no share; give a percentage above 0, at most 100`, at: "share" };
  const guard = {};
  for (const task of tasks.filter((one) => (typed[keeps(one)] ?? "").trim())) {
    const keep = part(typed[keeps(task)]);
    if (keep === null) return { wrong: `${task}: "${typed[keeps(task)]}" is no part; give a percentage above 0, at most 100`, at: keeps(task) };
    guard[task] = keep;
  }
  return { folder, share, session: typed.session.trim(), ...(Object.keys(guard).length ? { guard } : {}) };
}

/** A percentage as a part of 1; null for what is none. */
function part(text) {
  const value = /^\s*\d+([.,]\d+)?\s*%?\s*$/.test(text) ? parseFloat(text.replace(",", ".")) : NaN;
  return value > 0 && value <= 100 ? value / 100 : null;
}

async function begin(body, { said, start, again }) {
  said.textContent = body.wrong ?? "";
  for (const one of start.form.elements) one.removeAttribute("aria-invalid");
  if (body.wrong) {
    const wrong = document.getElementById(body.at);
    wrong.setAttribute("aria-invalid", "true");
    return wrong.focus();
  }
  const kept = Object.entries(body.guard ?? {}).map(([task, keep]) => `${task} ${percent(keep)}`).join(", ") || "all of every task";
  const question = `Answer ${percent(body.share)} of users by the bundle in ${body.folder}? It is to keep ${kept}, or is dropped.`;
  if (!(await agreed(question, "Start the canary"))) return;
  start.disabled = true;
  start.textContent = "Loading the bundle …";
  try {
    await ask("/v1/bundles/canary", { method: "POST", body });
  } catch (error) {
    said.textContent = error.message;
    start.disabled = false;
    start.textContent = "Start the canary";
    return start.focus();
  }
  typed.folder = "";
  again();
}

/** A part of 1 in words. */
export const percent = (share) => `${+(100 * share).toPrecision(3)} %`;
