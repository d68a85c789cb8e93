// Which view an address is, and moving between views without loading a page.
import { useEffect, useState } from "../vendor/htm-preact.js";

const listeners = new Set();
const told = () => listeners.forEach((listener) => listener());

/** Go to an address of these pages. `replace`: without a step back to where it was. */
export function go(path, { replace = false } = {}) {
  if (path === location.pathname + location.search) return;
  history[replace ? "replaceState" : "pushState"](null, "", path);
  told();
}

window.addEventListener("popstate", told);

// A link of a page is an ordinary link: it can be opened in a new tab, and works while this script does not.
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href^='/']");
  if (!link || link.target || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  if (link.hasAttribute("data-away")) return;
  event.preventDefault();
  go(link.getAttribute("href"));
});

/** The address, drawn anew when it changes. */
export function usePlace() {
  const [place, setPlace] = useState(() => ({ path: location.pathname, search: location.search }));
  useEffect(() => {
    const listener = () => setPlace({ path: location.pathname, search: location.search });
    listeners.add(listener);
    return () => listeners.delete(listener);
  }, []);
  return place;
}

/** A value that stays in the address: `?name=value`; "" is left out. */
export function useSearch(name) {
  const { search } = usePlace();
  const set = (value) => {
    const wanted = new URLSearchParams(location.search);
    if (value) wanted.set(name, value);
    else wanted.delete(name);
    go(location.pathname + (wanted.size ? `?${wanted}` : ""), { replace: true });
  };
  return [new URLSearchParams(search).get(name) ?? "", set];
}

/** The address of something with a key, which may hold any character. */
export const at = (...parts) => `/${parts.map((part) => String(part).split("/").map(encodeURIComponent).join("/")).join("/")}`;

/** The key in an address: what follows the view's name. */
export const keyIn = (path) => path.split("/").slice(2).map(decodeURIComponent).join("/") || null;
