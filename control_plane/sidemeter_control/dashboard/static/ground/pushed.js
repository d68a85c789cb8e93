// What the control plane pushes: subscriptions over one WebSocket of the tab, opened anew when it is cut.
import { useEffect, useRef, useState } from "../vendor/htm-preact.js";

const LONGEST_MS = 30_000;
const RESTS_AFTER_MS = 2_000;

/** All subscriptions of the tab, by their id: { query, variables, onHeard, onOpen }. */
const wanted = new Map();
let socket = null;
let isOpen = false;
let tries = 0;
let count = 0;
let timer = null;

const tell = (message) => socket.send(JSON.stringify(message));
const subscribe = (id, { query, variables }) => tell({ id, type: "subscribe", payload: { query, variables } });

function opened(open) {
  isOpen = open;
  for (const each of wanted.values()) each.onOpen(open);
}

function connect() {
  clearTimeout(timer);
  socket = new WebSocket(`${location.origin.replace("http", "ws")}/graphql`, "graphql-transport-ws");
  socket.addEventListener("open", () => tell({ type: "connection_init" }));
  socket.addEventListener("message", ({ data }) => hear(JSON.parse(data)));
  socket.addEventListener("close", closed);
}

function hear({ type, id }) {
  if (type === "connection_ack") {
    tries = 0;
    opened(true);
    for (const [each, asked] of wanted) subscribe(each, asked);
  } else if (type === "next") wanted.get(id)?.onHeard();
  else if (type === "ping") tell({ type: "pong" });
}

/** Until it is open again everything is asked for as often as without it. */
function closed({ target }) {
  if (target !== socket) return;
  socket = null;
  opened(false);
  if (!wanted.size) return;
  tries += 1;
  timer = setTimeout(connect, Math.min(LONGEST_MS, 500 * 2 ** tries));
}

function add(asked) {
  const id = String((count += 1));
  wanted.set(id, asked);
  if (isOpen) subscribe(id, asked);
  else if (!socket) connect();
  return () => {
    wanted.delete(id);
    if (isOpen) tell({ id, type: "complete" });
    setTimeout(rest, RESTS_AFTER_MS);
  };
}

/** Nobody listens any more, and nobody came in the place of whoever left. */
function rest() {
  if (wanted.size || !socket) return;
  isOpen = false;
  socket.close();
}

/** Calls `onHeard` whenever one of the subscriptions says something; answers whether they are heard at all. */
export function useHeard(topics, onHeard) {
  const [open, setOpen] = useState(isOpen);
  const heard = useRef(onHeard);
  heard.current = onHeard;
  useEffect(() => {
    setOpen(isOpen);
    const ends = topics.map(({ query, variables }) => add({ query, variables, onHeard: () => heard.current(), onOpen: setOpen }));
    return () => ends.forEach((end) => end());
  }, [JSON.stringify(topics)]);
  return open;
}
