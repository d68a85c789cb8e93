// The prices of a draft as drawings, one charge at a time.
import { html, useState } from "../vendor/htm-preact.js";
import { t } from "../ground/words.js";
import { Card } from "../parts/basic.js";
import { Field } from "../parts/forms.js";
import { isDrawable } from "./models.js";
import { PriceChart } from "./price_chart.js";

export function Prices({ draft, published, meters }) {
  const [chosen, setChosen] = useState("");
  const drawable = draft.charges.filter(isDrawable);
  const charge = drawable.find(({ key }) => key === chosen) ?? drawable[0];
  if (!charge) return html`<${Card} title=${t("Prices")}><p class="muted">${t("A charge with a meter is drawn here over its quantity.")}</p></${Card}>`;
  const meter = meters.find(({ key }) => key === charge.meter);
  const before = published?.charges.find(({ key }) => key === charge.key);
  return html`<${Card} title=${t("Prices")}>
    ${drawable.length > 1 && html`<${Field} label=${t("Charge")} value=${charge.key} onValue=${setChosen} options=${Object.fromEntries(drawable.map((each) => [each.key, each.name ?? each.key]))} />`}
    <${PriceChart} key=${charge.key} charge=${charge} before=${before && isDrawable(before) ? before : null} currency=${draft.currency} unit=${meter?.unit ?? t("units")} />
  </${Card}>`;
}
