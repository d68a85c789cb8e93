// Before anything is drawn: the theme and the language that were chosen, so that neither changes before the eyes.
(() => {
  const root = document.documentElement;
  const kept = (name) => { try { return localStorage.getItem(name); } catch { return null; } };
  const theme = kept("sidemeter-theme");
  if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  const language = kept("sidemeter-language") ?? navigator.language;
  root.lang = language.toLowerCase().startsWith("de") ? "de" : "en";
})();
