// The theme: light, dark, or that of the system.

const storageKey = "mlxrank-theme";
const themes = ["auto", "light", "dark"];
const system = matchMedia("(prefers-color-scheme: dark)");
let theme = themes.includes(localStorage.getItem(storageKey)) ? localStorage.getItem(storageKey) : "auto";

const listeners = [];

// onTheme registers a listener for changes of colours.
export function onTheme(listener) { listeners.push(listener); }

function apply() {
  const dark = theme === "dark" || (theme === "auto" && system.matches);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  document.getElementById("theme").textContent = "Theme: " + theme;
  for (const listener of listeners) listener();
}

document.getElementById("theme").addEventListener("click", () => {
  theme = themes[(themes.indexOf(theme) + 1) % themes.length];
  localStorage.setItem(storageKey, theme);
  apply();
});
system.addEventListener("change", apply);
apply();

// tone returns a colour of the style sheet.
export function tone(name) {
  return getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
}
