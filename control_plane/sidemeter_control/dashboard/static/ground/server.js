// Questions to GraphQL, and what may be wrong with an answer. A key is handed over once; a cookie that no script reads stands for it.

// What pages of this server alone can send: no form of another site sets it.
const PAGE = { "Sidemeter-Page": "1" };

/** Why something was not answered: `code` is stable, `field` names an input, `id` is in the log. */
export class Problem extends Error {
  constructor(code, message, { field, id, retryAfter } = {}) {
    super(message);
    Object.assign(this, { code, field, id, retryAfter });
  }
}

/** Whose session this is: { name, scopes, customer, isPortal, expiresAt }; null: nobody's yet. */
export async function whose() {
  try {
    return await (await fetched("/session")).json();
  } catch (problem) {
    if (problem.code === "UNAUTHENTICATED") return null;
    throw problem;
  }
}

/** Opens a session with a key, or with the token of a portal link; answers whose it is. */
export async function signIn(key) {
  return (await fetched("/session", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ key }) })).json();
}

export const signOut = () => fetched("/session", { method: "DELETE" });

/** The data of a query or mutation; throws a Problem. */
export async function ask(query, variables = {}, { signal } = {}) {
  const answer = await fetched("/graphql", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
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
    answer = await fetch(path, { credentials: "same-origin", ...options, headers: { ...PAGE, ...options.headers } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("UNREACHABLE", error.message);
  }
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  const code = (told.code ?? { 401: "UNAUTHENTICATED", 403: "FORBIDDEN" }[answer.status] ?? "INTERNAL").toUpperCase();
  throw new Problem(code, told.detail ?? answer.statusText, { retryAfter: Number(answer.headers.get("Retry-After")) || undefined });
}
