// Questions to the service, under the key that this tab was told; it is kept in the tab's session alone, and in no address.

const KEPT = "umbel-key";

export const kept = {
  get key() { return sessionStorage.getItem(KEPT) || ""; },
  set key(key) { key ? sessionStorage.setItem(KEPT, key) : sessionStorage.removeItem(KEPT); },
};

/** A question that was not answered as asked: the status, and the service's own sentence. */
export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** What a route answers, as JSON; throws Refused. */
export async function ask(path, { method = "GET", body, text = false } = {}) {
  const headers = kept.key ? { authorization: `Bearer ${kept.key}` } : {};
  if (body !== undefined) headers["content-type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, {
      method, headers, body: body === undefined ? undefined : JSON.stringify(body), cache: "no-store", credentials: "omit", redirect: "error",
    });
  } catch {
    throw new Refused(0, "the service does not answer; is it running?");
  }
  const said = await answer.text();
  if (!answer.ok) throw new Refused(answer.status, detail(said) || `${answer.status} ${answer.statusText}`);
  return text ? said : JSON.parse(said);
}

function detail(said) {
  try {
    return JSON.parse(said).detail;
  } catch {
    return "";
  }
}
