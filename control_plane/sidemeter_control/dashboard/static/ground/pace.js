// How many events come in, of the figures that the control plane has for Prometheus.
import { useEffect, useState } from "../vendor/htm-preact.js";
import { fetched } from "./server.js";

const KEPT = 61;

/** One figure of a text of metrics, added up over its labels: { labels: value }. */
export function figures(text, name) {
  const found = {};
  for (const [, labels = "", value] of text.matchAll(new RegExp(`^${name}(?:\\{([^}]*)\\})? (\\S+)$`, "gm"))) found[labels] = Number(value);
  return found;
}

const added = (found) => Object.values(found).reduce((sum, value) => sum + value, 0);

function sample(text) {
  return {
    at: performance.now(),
    accepted: figures(text, "sidemeter_events_total")['outcome="accepted"'] ?? 0,
    duplicates: figures(text, "sidemeter_events_total")['outcome="duplicate"'] ?? 0,
    backlog: added(figures(text, "sidemeter_backlog_events")),
    letters: added(figures(text, "sidemeter_dead_letters")),
    lost: added(figures(text, "sidemeter_lost_events")),
    recovering: added(figures(text, "sidemeter_recovering")) > 0,
  };
}

/** { now, rates, problem }: the newest figures, and accepted events per second of each of the last seconds. */
export function usePace() {
  const [state, setState] = useState({ samples: [], problem: null });
  useEffect(() => {
    let timer;
    const control = new AbortController();
    async function once() {
      try {
        if (!document.hidden) {
          const text = await (await fetched("/metrics", { signal: control.signal })).text();
          setState(({ samples }) => ({ samples: [...samples, sample(text)].slice(-KEPT), problem: null }));
        }
      } catch (problem) {
        if (control.signal.aborted) return;
        setState(({ samples }) => ({ samples, problem }));
      }
      timer = setTimeout(once, 1000);
    }
    once();
    return () => {
      control.abort();
      clearTimeout(timer);
    };
  }, []);
  const { samples, problem } = state;
  const rates = samples.slice(1).map((each, index) => Math.max(0, each.accepted - samples[index].accepted) / ((each.at - samples[index].at) / 1000));
  return { now: samples.at(-1) ?? null, rates, problem };
}
