// Light, dark, or as the system has it.

const place = "mlxrank-theme";
const themes = ["auto", "light", "dark"];
const system = matchMedia("(prefers-color-scheme: dark)");
let theme = themes.includes(localStorage.getItem(place)) ? localStorage.getItem(place) : "auto";

const listeners = [];

// onTheme is called after each change of colours.
export function onTheme(listener) { listeners.push(listener); }

function apply() {
  const dark = theme === "dark" || (theme === "auto" && system.matches);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  document.getElementById("theme").textContent = "Theme: " + theme;
  for (const listener of listeners) listener();
}

document.getElementById("theme").addEventListener("click", () => {
  theme = themes[(themes.indexOf(theme) + 1) % themes.length];
  localStorage.setItem(place, theme);
  apply();
});
system.addEventListener("change", apply);
apply();

// tone is the value of one of the style sheet's colours.
export function tone(name) {
  return getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
}
