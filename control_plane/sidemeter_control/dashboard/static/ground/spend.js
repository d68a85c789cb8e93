// What every customer owes in its current period: read page by page, as often as that takes no more than a tenth of the time.
import { useEffect, useState } from "../vendor/htm-preact.js";
import { sum } from "./decimal.js";
import { ask } from "./server.js";

const PAGE = 200;
/** So many customers are read; of more, the first by key. */
export const MOST_CUSTOMERS = 2000;
const QUERY = `query Spend($after: String, $search: String) {
  customers(first: ${PAGE}, after: $after, search: $search) {
    edges { node { key name cost { to total { rounded amount currency } } subscriptions { status plan { key name } } } }
    pageInfo { hasNextPage endCursor }
  }
}`;

async function every(search, signal) {
  const found = [];
  let after = null;
  do {
    const { customers } = await ask(QUERY, { after, search: search || null }, { signal });
    found.push(...customers.edges.map((edge) => edge.node));
    after = customers.pageInfo.hasNextPage ? customers.pageInfo.endCursor : null;
  } while (after && found.length < MOST_CUSTOMERS);
  return { customers: found, more: after !== null };
}

/** { customers, more, problem, at, again }; `customers` is null until they are read. */
export function useSpend(search = "") {
  const [state, setState] = useState({ customers: null, more: false, problem: null, at: null });
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    const control = new AbortController();
    let timer;
    async function once() {
      const began = performance.now();
      try {
        const found = await every(search, control.signal);
        setState({ ...found, problem: null, at: Date.now() });
      } catch (problem) {
        if (!control.signal.aborted) setState((before) => ({ ...before, problem }));
      }
      if (!control.signal.aborted) timer = setTimeout(() => (document.hidden ? wait() : once()), Math.max(1000, 9 * (performance.now() - began)));
    }
    const wait = () => document.addEventListener("visibilitychange", once, { once: true, signal: control.signal });
    once();
    return () => {
      control.abort();
      clearTimeout(timer);
    };
  }, [search, turn]);
  return { ...state, again: () => setTurn(turn + 1) };
}

/** The totals by currency, as amounts, the largest number of customers first. */
export function totals(customers) {
  const by = new Map();
  for (const { cost } of customers) {
    if (cost.total.currency === "XXX") continue;
    by.set(cost.total.currency, [...(by.get(cost.total.currency) ?? []), cost.total.rounded]);
  }
  return [...by].sort((a, b) => b[1].length - a[1].length).map(([currency, amounts]) => ({ currency, rounded: sum(amounts), amount: sum(amounts) }));
}
