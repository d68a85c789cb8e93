// A customer's own page.
import { html, render } from "./vendor/htm-preact.js";

render(html`<main class="portal"></main>`, document.getElementById("page"));
