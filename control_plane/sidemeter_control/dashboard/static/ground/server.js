// Questions to GraphQL, and what may be wrong with an answer. A key stays in this tab.

const KEPT = "sidemeter-key";

/** Why something was not answered: `code` is stable, `field` names an input, `id` is in the log. */
export class Problem extends Error {
  constructor(code, message, { field, id, retryAfter } = {}) {
    super(message);
    Object.assign(this, { code, field, id, retryAfter });
  }
}

let key = sessionStorage.getItem(KEPT);
const listeners = new Set();

export const knownKey = () => key;

/** Use a key from now on; null forgets it. */
export function useKeyOf(secret) {
  key = secret;
  if (secret === null) sessionStorage.removeItem(KEPT);
  else sessionStorage.setItem(KEPT, secret);
  for (const listener of listeners) listener();
}

/** Calls back when the key changes; answers how to stop that. */
export function onKey(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export const headers = () => (key ? { Authorization: `Bearer ${key}` } : {});

/** The data of a query or mutation; throws a Problem. */
export async function ask(query, variables = {}, { signal } = {}) {
  const answer = await fetched("/graphql", {
    method: "POST",
    headers: { "Content-Type": "application/json", ...headers() },
    body: JSON.stringify({ query, variables }),
    signal,
  });
  const { data, errors } = JSON.parse(await answer.text(), exact);
  if (errors?.length) throw problemOf(errors[0]);
  return data;
}

/** A number in an event's data that a double would change stays as it was written. */
function exact(_, value, { source } = {}) {
  return typeof value === "number" && source && String(value) !== source && JSON.rawJSON ? JSON.rawJSON(source) : value;
}

function problemOf({ message, extensions = {} }) {
  return new Problem(extensions.code ?? "INTERNAL", message, extensions);
}

/** An answer of this server that is no refusal; throws a Problem. */
export async function fetched(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("UNREACHABLE", error.message);
  }
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  const code = (told.code ?? { 401: "UNAUTHENTICATED", 403: "FORBIDDEN" }[answer.status] ?? "INTERNAL").toUpperCase();
  throw new Problem(code, told.detail ?? answer.statusText, { retryAfter: Number(answer.headers.get("Retry-After")) || undefined });
}
