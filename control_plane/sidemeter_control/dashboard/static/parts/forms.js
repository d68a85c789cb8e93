// Fields that say what is wrong with them, and questions that have to be answered before anything else.
import { html, useEffect, useRef } from "../vendor/htm-preact.js";
import { t } from "../ground/words.js";

let count = 0;
/** A name for an element that is nowhere else on the page. */
export function useName() {
  const name = useRef(null);
  name.current ??= `f${(count += 1)}`;
  return name.current;
}

/** One input under its label. `options`: { value: label } makes it a choice; `wrong` is said beneath. */
export function Field({ label, hint, wrong, value, onValue, options, whole, rows, ...rest }) {
  const name = useName();
  const about = [hint && `${name}h`, wrong && `${name}w`].filter(Boolean).join(" ") || undefined;
  const shared = { id: name, value, "aria-describedby": about, "aria-invalid": wrong ? "true" : undefined, onInput: (event) => onValue(event.currentTarget.value), ...rest };
  return html`<div class=${whole ? "field whole" : "field"}>
    <label for=${name}>${label}</label>
    ${options ? html`<select ...${shared}>${Object.entries(options).map(([each, text]) => html`<option key=${each} value=${each} selected=${each === String(value ?? "")}>${text}</option>`)}</select>`
      : rows ? html`<textarea rows=${rows} spellcheck="false" ...${shared}></textarea>`
        : html`<input autocomplete="off" ...${shared} />`}
    ${hint && html`<span class="hint" id=${`${name}h`}>${hint}</span>`}
    ${wrong && html`<span class="wrong" id=${`${name}w`}>${wrong}</span>`}
  </div>`;
}

/** One box to tick. */
export const Check = ({ label, checked, onValue, ...rest }) => html`<label class="check"><input type="checkbox" checked=${checked} onChange=${(event) => onValue(event.currentTarget.checked)} ...${rest} />${label}</label>`;

/** Several of some choices: { value: label }. */
export const Checks = ({ label, of, chosen, onValue }) => html`<fieldset class="field"><legend>${label}</legend><div class="row">${Object.entries(of).map(
  ([value, text]) => html`<${Check} key=${value} label=${text} checked=${chosen.includes(value)} onValue=${(on) => onValue(on ? [...chosen, value] : chosen.filter((each) => each !== value))} />`,
)}</div></fieldset>`;

/** A form in front of the page. The key Escape closes it, and the focus goes back to where it was. */
export function Dialog({ title, onClose, onSubmit, deed, busy, danger, disabled, children }) {
  const place = useRef(null);
  useEffect(() => {
    const dialog = place.current;
    dialog.showModal();
    return () => dialog.close(); // which gives the focus back
  }, []);
  const submit = (event) => {
    event.preventDefault();
    onSubmit?.();
  };
  return html`<dialog ref=${place} aria-label=${title} onCancel=${(event) => { event.preventDefault(); onClose(); }}>
    <form onSubmit=${submit} novalidate>
      <h2>${title}</h2>
      ${children}
      <div class="row end">
        <button type="button" onClick=${onClose}>${onSubmit ? t("Cancel") : t("Close")}</button>
        ${onSubmit && html`<button class=${danger ? "danger" : "main-deed"} disabled=${busy || disabled}>${busy ? t("Working …") : deed}</button>`}
      </div>
    </form>
  </dialog>`;
}
