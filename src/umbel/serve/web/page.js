// The page: which view is shown, asked for again and again while somebody looks; the key, and what the service refuses.

import { ask, kept } from "./ask.js";
import { bundles } from "./bundles.js";
import { decisions } from "./decisions.js";
import { fusion } from "./fusion.js";
import { h } from "./make.js";
import { quality } from "./quality.js";

const VIEWS = { quality, decisions, fusion, bundles };
const FIRST = Object.keys(VIEWS)[0];
const main = document.getElementById("main");
const told = document.getElementById("told");
let shown = { place: "", said: "" };
let timer = 0;

/** The view that the address names, and the words behind its name. */
function place() {
  const [name, ...words] = location.hash.startsWith("#/") ? location.hash.slice(2).split("/").map(decodeURIComponent) : [FIRST];
  return { name: VIEWS[name] ? name : FIRST, words, key: location.hash };
}

/** Ask for what the view shows, and show it if it is new (or anew); then again, while somebody looks. */
async function refresh(anew = false) {
  clearTimeout(timer);
  const at = place();
  const view = VIEWS[at.name];
  try {
    const content = await view.read(at.words);
    if (place().key !== at.key) return;
    await serving();
    const said = JSON.stringify(content);
    if (anew || shown.place !== at.key || shown.said !== said) draw(at, view.show(content, refresh, at.words));
    shown = { place: at.key, said };
    told.textContent = `as of ${new Date().toLocaleTimeString("sv-SE")}`;
  } catch (error) {
    if (place().key !== at.key) return;
    shown = { place: "", said: "" };
    draw(at, refused(error));
  }
  if (view.every) timer = setTimeout(() => (document.hidden ? null : refresh()), view.every * 1000);
}

/** Put parts on the page; what had the focus has it still, if it is still there. */
function draw(at, parts) {
  const focus = document.activeElement?.id;
  main.replaceChildren(...[parts].flat(2).filter(Boolean));
  if (focus && document.activeElement?.id !== focus) document.getElementById(focus)?.focus({ preventScroll: true });
  const title = VIEWS[at.name].title;
  document.title = `${title} · umbel`;
  for (const link of document.querySelectorAll("#views a")) {
    link.getAttribute("href") === `#/${at.name}` ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  }
}

/** What is shown in place of a view that is refused. */
function refused(error) {
  told.textContent = "";
  const [, mend] = error.message.split("; ");
  if (error.status === 401) {
    return h("div", { class: "card" }, h("h2", {}, "A key is needed"),
      h("p", {}, "This service answers who has a key. ", h("code", {}, "umbel key FILE NAME --scope read --scope admin"), " makes one; admin is for changes."),
      h("button", { type: "button", class: "strong", id: "enter", onclick: enter }, "Enter a key"));
  }
  return h("div", { class: "card", role: "alert" }, h("h2", {}, "Not answered"), h("p", {}, error.message),
    mend ? null : h("p", { class: "mute" }, "It is asked again in a while."), h("button", { type: "button", onclick: () => refresh(true) }, "Ask again"));
}

/** What answers now, under the title; anybody may know it. */
async function serving() {
  const now = await ask("/readyz").catch(() => null);
  const line = document.getElementById("serving");
  line.replaceChildren(...(now ? ["bundle ", h("code", {}, now.bundle), " · fusion ", h("code", {}, now.fusion)] : ["not ready"]));
  document.getElementById("key").textContent = kept.key ? "Key: set" : "Key";
}

/** Ask for the key, or forget it. */
function enter() {
  const field = h("input", { type: "password", id: "typed", autocomplete: "off", spellcheck: "false", autofocus: true, "aria-describedby": "where" });
  const dialog = h("dialog", { "aria-labelledby": "asked", onclose: () => { close(dialog, field); } },
    h("form", { method: "dialog" }, h("label", { for: "typed", id: "asked" }, "Key"), field,
      h("p", { class: "mute", id: "where" }, "Kept in this tab until it is closed; sent to this service alone."),
      h("div", { class: "row" }, kept.key ? h("button", { value: "forget", formnovalidate: true }, "Forget it") : null,
        h("button", { value: "no", type: "button", onclick: () => dialog.close("no") }, "Cancel"), h("button", { value: "yes", class: "strong" }, "Use it"))));
  document.body.append(dialog);
  dialog.showModal();
}

function close(dialog, field) {
  if (dialog.returnValue === "yes" && field.value.trim()) kept.key = field.value.trim();
  if (dialog.returnValue === "forget") kept.key = "";
  dialog.remove();
  shown = { place: "", said: "" };
  refresh();
}

document.getElementById("views").append(...Object.entries(VIEWS).map(([name, view]) => h("a", { href: `#/${name}` }, view.title)));
document.getElementById("key").addEventListener("click", enter);
addEventListener("hashchange", () => { if (location.hash.startsWith("#/") || !location.hash) { refresh(); main.focus({ preventScroll: true }); scrollTo(0, 0); } });
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
refresh();
