// The latest decisions, and one of them: what was shown, what each task added to its score, which fields moved it.

import { ask } from "./ask.js";
import { badge, count, empty, h, moment, section, table } from "./make.js";

export const decisions = {
  title: "Decisions",
  every: 5,
  read: async () => ({ list: (await ask("/v1/decisions?limit=50")).decisions }),
  show: ({ list }) => section("Latest decisions", listed(list)),
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
