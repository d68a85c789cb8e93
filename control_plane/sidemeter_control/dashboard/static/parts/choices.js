// The language and the theme, for whoever looks.
import { html, useState } from "../vendor/htm-preact.js";
import { LANGUAGES, chosenLanguage, speak, t } from "../ground/words.js";
import { THEMES, chosenTheme, useTheme } from "../ground/theme.js";

/** Choices of language and theme. */
export function Choices() {
  const [theme, setTheme] = useState(chosenTheme());
  const names = { system: t("As the system"), light: t("Light"), dark: t("Dark") };
  const choose = (wanted) => {
    useTheme(wanted);
    setTheme(wanted);
  };
  return html`<div class="row choices">
    <select aria-label=${t("Language")} value=${chosenLanguage()} onChange=${(event) => speak(event.currentTarget.value)}>
      ${Object.entries(LANGUAGES).map(([each, name]) => html`<option key=${each} value=${each} lang=${each} selected=${each === chosenLanguage()}>${name}</option>`)}</select>
    <select aria-label=${t("Theme")} value=${theme} onChange=${(event) => choose(event.currentTarget.value)}>
      ${THEMES.map((each) => html`<option key=${each} value=${each} selected=${each === theme}>${names[each]}</option>`)}</select>
  </div>`;
}
