// Where somebody goes on reading after a view has changed: at its heading, as soon as that is there.
import { useEffect, useRef } from "../vendor/htm-preact.js";
import { say } from "./say.js";

let due = false;

/** A view is on its way. */
export function leave() {
  due = true;
  window.scrollTo(0, 0);
}

/** For the heading of a view: takes the focus once, unless somebody has gone on to something of the view already. */
export function useArrival(title) {
  const heading = useRef(null);
  useEffect(() => {
    document.title = `${title} · Sidemeter`;
    if (!due) return;
    due = false;
    if (document.activeElement?.closest("#main") && document.activeElement.id !== "main") return;
    heading.current.focus({ preventScroll: true });
    say(title);
  }, [title]);
  return heading;
}
