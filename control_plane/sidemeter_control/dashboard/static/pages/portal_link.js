// A link that opens a customer's own page, to be shown in a product or sent.
import { html, useState } from "../vendor/htm-preact.js";
import { useDeed } from "../ground/live.js";
import { ask } from "../ground/server.js";
import { t } from "../ground/words.js";
import { Secret, Trouble } from "../parts/basic.js";
import { Dialog, Field } from "../parts/forms.js";

const CREATE = "mutation Link($customer: ID!, $lasts: Int!) { createPortalLink(customer: $customer, expiresInSeconds: $lasts) }";
const LASTING = { 900: () => t("15 minutes"), 3600: () => t("an hour"), 86400: () => t("a day") };

export function PortalLink({ customer, onClose }) {
  const [lasts, setLasts] = useState("3600");
  const make = useDeed(async () => new URL((await ask(CREATE, { customer: customer.key, lasts: Number(lasts) })).createPortalLink, location.href).href);
  if (make.done) {
    return html`<${Dialog} title=${t("A link for {name}", { name: customer.name ?? customer.key })} onClose=${onClose}>
      <p>${t("Whoever has it sees this customer's usage and cost, and may set its budgets, until it ends.")}</p><${Secret} text=${make.done} label=${t("Link")} />
      <p><a href=${make.done} target="_blank" rel="noopener">${t("Open it")}</a></p></${Dialog}>`;
  }
  return html`<${Dialog} title=${t("A link for {name}", { name: customer.name ?? customer.key })} deed=${t("Make the link")} busy=${make.busy} onSubmit=${make.run} onClose=${onClose}>
    <${Trouble} problem=${make.problem} />
    <p>${t("It opens the customer's own page without a key: cost now, usage, limits and budgets, and nothing of others.")}</p>
    <${Field} label=${t("Works for")} value=${lasts} onValue=${setLasts} options=${Object.fromEntries(Object.entries(LASTING).map(([key, text]) => [key, text()]))} /></${Dialog}>`;
}
