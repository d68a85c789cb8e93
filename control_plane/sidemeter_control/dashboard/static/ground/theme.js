// Light, dark, or as the machine is set.
const KEPT = "sidemeter-theme";
export const THEMES = ["system", "light", "dark"];

export const chosenTheme = () => document.documentElement.dataset.theme ?? "system";

export function useTheme(theme) {
  if (theme === "system") {
    delete document.documentElement.dataset.theme;
    localStorage.removeItem(KEPT);
  } else {
    document.documentElement.dataset.theme = theme;
    localStorage.setItem(KEPT, theme);
  }
}
