// The frame around the operator's views: the way about, the language, the theme, and the way out.
import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { t } from "../ground/words.js";
import { usePlace } from "../ground/router.js";
import { leave } from "../ground/arrival.js";
import { Choices } from "./choices.js";

const drawn = (d) => html`<svg class="icon" viewBox="0 0 16 16" fill="none" stroke="currentColor" stroke-width="1.5" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true"><path d=${d} /></svg>`;
const ICONS = {
  "/": "M2 13V9m4 4V5m4 8V7m4 6V3",
  "/customers": "M6 7.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5ZM1.5 13.5c0-2.5 2-4 4.5-4s4.5 1.5 4.5 4M11 2.8a2.5 2.5 0 0 1 0 4.5m1 2.5c1.7.5 2.5 1.8 2.5 3.7",
  "/meters": "M2 11.5a6 6 0 1 1 12 0M8 11.5 11 7",
  "/plans": "M3 2.5h10v11H3zM5.5 5.5h5m-5 2.5h5m-5 2.5h3",
  "/events": "M1.5 8h3l2-5 3 10 2-5h3",
  "/dead-letters": "M2 4h12v8.5H2zM2 4.5l6 4.5 6-4.5",
  "/agents": "M3 3h10v4H3zM3 9h10v4H3zM5.5 5h.01M5.5 11h.01",
  "/webhooks": "M6 6.5a2.5 2.5 0 1 1 3.5 2.3l1.8 3M8 6.5 5.5 11M5.5 11a2 2 0 1 1-2-2m2 2h5.5m.5 0a2 2 0 1 0 2 2",
  "/audit": "M8 14.5A6.5 6.5 0 1 0 8 1.5a6.5 6.5 0 0 0 0 13ZM8 4.5V8l2.5 1.5",
  "/keys": "M10.5 9.5a4 4 0 1 0-3.7-2.5L2 11.8V14h2.2l.8-1.5 1.5-.3.3-1.7L8.7 8.9M11 5h.01",
};

const groups = () => [
  ["", [["/", t("Overview")], ["/customers", t("Customers")]]],
  [t("What is sold"), [["/meters", t("Meters")], ["/plans", t("Plans")]]],
  [t("What comes in"), [["/events", t("Events")], ["/dead-letters", t("Dead letters")], ["/agents", t("Agents and leases")]]],
  [t("What goes out"), [["/webhooks", t("Webhooks")]]],
  [t("Who may"), [["/audit", t("Audit log")], ["/keys", t("Keys")]]],
];

const Brand = () => html`<a class="brand" href="/"><svg class="icon" viewBox="0 0 16 16" aria-hidden="true"><rect width="16" height="16" rx="4" fill="currentColor" /><path d="M4.5 11V8.5M8 11V5m3.5 6V7" stroke="var(--panel)" stroke-width="1.8" stroke-linecap="round" /></svg>Sidemeter</a>`;

const isAt = (path, address) => (address === "/" ? path === "/" : path === address || path.startsWith(`${address}/`));

/** Everything around a view. `badges`: counts by address. */
export function Shell({ badges = {}, who, onLeave, children }) {
  const { path } = usePlace();
  const [open, setOpen] = useState(false);
  const before = useRef(path);
  useEffect(() => {
    if (before.current === path) return;
    before.current = path;
    setOpen(false);
    leave();
  }, [path]);
  return html`<a class="skip" href="#main">${t("Skip to the content")}</a>
    <div class="shell">
      <header class="bar"><${Brand} /><button type="button" aria-expanded=${String(open)} aria-controls="way" onClick=${() => setOpen(!open)}>${t("Menu")}</button></header>
      <div class=${open ? "side open" : "side"} id="way">
        <nav class="way" aria-label=${t("Menu")}><${Brand} />${groups().map(([title, links]) => html`${title && html`<p class="way-title">${title}</p>`}${links.map(([address, name]) => html`<a key=${address} href=${address} aria-current=${isAt(path, address) ? "page" : undefined}>
            ${drawn(ICONS[address])}${name}${badges[address] ? html`<span class="tag warn count">${badges[address]}</span>` : ""}</a>`)}`)}</nav>
        <footer class="foot"><${Choices} />${who.name && html`<p class="small muted breaks">${t("Signed in with the key {name}", { name: who.name })}</p>`}
          <div class="row small"><a href="/graphql" data-away>${t("GraphQL explorer")}</a><button type="button" class="plain small" onClick=${onLeave}>${t("Sign out")}</button></div></footer>
      </div>
      <main class="main" id="main" tabindex="-1"><div class="view">${children}</div></main>
    </div>`;
}
