// Features: what plans allow. Those there are, and a form for another.
import { html, useState } from "../vendor/htm-preact.js";
import { useDeed } from "../ground/live.js";
import { ask } from "../ground/server.js";
import { at } from "../ground/router.js";
import { say } from "../ground/say.js";
import { t } from "../ground/words.js";
import { Card, Empty, Trouble } from "../parts/basic.js";
import { Dialog, Field } from "../parts/forms.js";
import { Table } from "../parts/table.js";

const CREATE = "mutation CreateFeature($input: FeatureInput!) { createFeature(input: $input) { key } }";

/** A button and the form behind it. `onMade(key)`: there is another feature. */
export function AddFeature({ meters, onMade }) {
  const [open, setOpen] = useState(false);
  const made = (key) => {
    setOpen(false);
    say(t("The feature {key} is there.", { key }));
    onMade(key);
  };
  return html`<button type="button" onClick=${() => setOpen(true)}>${t("Add a feature")}</button>${open && html`<${Create} meters=${meters} onMade=${made} onClose=${() => setOpen(false)} />`}`;
}

function Create({ meters, onMade, onClose }) {
  const [input, setInput] = useState({ key: "", name: "", meter: "" });
  const put = (name) => (value) => setInput({ ...input, [name]: value });
  const create = useDeed(async () => {
    const sent = Object.fromEntries(Object.entries(input).filter(([, value]) => value));
    onMade((await ask(CREATE, { input: sent })).createFeature.key);
  });
  const wrong = (field) => (create.problem?.field === field ? create.problem.message : null);
  return html`<${Dialog} title=${t("Add a feature")} deed=${t("Add")} busy=${create.busy} disabled=${!input.key} onSubmit=${create.run} onClose=${onClose}>
    <${Trouble} problem=${create.problem} />
    <p>${t("Something that a customer may use. With a meter a plan can allow so much of it; without one it is there, or has a value.")}</p>
    <div class="fields"><${Field} label=${t("Key")} value=${input.key} onValue=${put("key")} wrong=${wrong("key")} required hint=${t("It never changes.")} />
      <${Field} label=${t("Name")} value=${input.name} onValue=${put("name")} wrong=${wrong("name")} />
      <${Field} label=${t("Meter")} value=${input.meter} onValue=${put("meter")} wrong=${wrong("meter")} options=${{ "": t("none"), ...Object.fromEntries(meters.map((each) => [each.key, each.name ?? each.key])) }} /></div>
  </${Dialog}>`;
}

/** Every feature. */
export const Features = ({ features, meters, again }) => html`<${Card} title=${t("Features")} note=${t("What plans allow, and agents ask for by key.")} flush actions=${html`<${AddFeature} meters=${meters} onMade=${again} />`}>
  ${features.length === 0 ? html`<${Empty} title=${t("No feature yet")}>${t("Add one to let plans allow or limit it.")}</${Empty}>`
    : html`<${Table} label=${t("Features")} rows=${features} columns=${[
      { key: "key", title: t("Feature"), cell: (each) => html`<span class="breaks">${each.name ?? each.key}</span>${each.name && html` <span class="muted small mono">${each.key}</span>`}` },
      { key: "meter", title: t("Meter"), cell: (each) => (each.meter ? html`<a class="mono breaks" href=${at("meters", each.meter.key)}>${each.meter.key}</a>` : html`<span class="muted">${t("none")}</span>`) },
    ]} />`}</${Card}>`;
