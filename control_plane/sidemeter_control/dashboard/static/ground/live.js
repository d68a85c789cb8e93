// Answers that stay true: asked again while somebody looks, and at once when something is heard.
import { useCallback, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { ask } from "./server.js";

/**
 * What `query` answers, again every `every` ms while the page is seen: { data, problem, at, again }.
 * After a problem the data of before stays, with the time it is of.
 */
export function useAnswer(query, variables = {}, { every = 0, skip = false } = {}) {
  const asked = JSON.stringify(variables);
  const load = useCallback((signal) => ask(query, JSON.parse(asked), { signal }), [query, asked]);
  return useLoaded(load, { every, skip });
}

/** The same of any function that takes a signal and answers a promise. */
export function useLoaded(load, { every = 0, skip = false } = {}) {
  const [state, setState] = useState({ data: null, problem: null, at: null, of: null });
  const wake = useRef(() => {});
  useEffect(() => {
    if (skip) return undefined;
    const stop = repeated(load, every, (change) => setState((before) => ({ ...before, ...change, of: load })));
    wake.current = stop.now;
    return stop;
  }, [load, every, skip]);
  const again = useCallback(() => wake.current(), []);
  const fresh = state.of === load || state.of === null;
  return { ...state, fresh, again };
}

function repeated(load, every, tell) {
  const control = new AbortController();
  let timer;
  let running = false;
  let wanted = false;
  async function once() {
    clearTimeout(timer);
    if (running) {
      wanted = true;
      return;
    }
    running = true;
    try {
      const data = await load(control.signal);
      if (!control.signal.aborted) tell({ data, problem: null, at: Date.now() });
    } catch (problem) {
      if (!control.signal.aborted) tell({ problem });
    }
    running = false;
    if (control.signal.aborted) return;
    if (wanted) {
      wanted = false;
      once();
    } else if (every && !document.hidden) timer = setTimeout(once, every);
  }
  const seen = () => !document.hidden && every && once();
  document.addEventListener("visibilitychange", seen);
  once();
  const stop = () => {
    control.abort();
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", seen);
  };
  stop.now = once;
  return stop;
}

/** Something to be done once at a time: { run, busy, problem, done }. */
export function useDeed(deed) {
  const [state, setState] = useState({ busy: false, problem: null, done: null });
  const run = async (...given) => {
    setState({ busy: true, problem: null, done: null });
    try {
      const done = await deed(...given);
      setState({ busy: false, problem: null, done: done ?? true });
      return done ?? true;
    } catch (problem) {
      setState({ busy: false, problem, done: null });
      return null;
    }
  };
  const forget = () => setState({ busy: false, problem: null, done: null });
  return { ...state, run, forget };
}

/** A value that follows another one after a pause: what somebody is typing. */
export function useSettled(value, pause = 250) {
  const [settled, setSettled] = useState(value);
  const text = JSON.stringify(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), pause);
    return () => clearTimeout(timer);
  }, [text]);
  return settled;
}
