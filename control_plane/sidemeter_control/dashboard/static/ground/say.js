// What a screen reader is told, in one place and not too often: numbers that move would never let it finish.
const QUIET_MS = 5000;

let waiting = null;
let next = 0;

/** Say it now. */
export function say(text) {
  const place = document.getElementById("said");
  place.textContent = place.textContent === text ? `${text}\u00a0` : text;
}

/** Say it at the next pause; of several only the last. */
export function sayMoved(text) {
  const first = waiting === null;
  waiting = text;
  if (!first) return;
  setTimeout(() => {
    next = Date.now() + QUIET_MS;
    say(waiting);
    waiting = null;
  }, Math.max(0, next - Date.now()));
}
