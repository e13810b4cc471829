// Colours of the theme, and the diverging palette: blue raises the function, red lowers it.
let palette = {};

function hexToRgb(hex) {
  const digits = hex.trim().slice(1), wide = digits.length === 3 ? [...digits].map((digit) => digit + digit).join("") : digits;
  return [0, 2, 4].map((at) => parseInt(wide.slice(at, at + 2), 16));
}

function readPalette() {
  const style = getComputedStyle(document.documentElement);
  const names = ["ink", "quiet", "rule", "ground", "accent", "sim", "cloud", "null", "neutral", "positive", "negative", "region"];
  palette = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  for (const name of ["neutral", "positive", "negative", "region", "null"]) palette[`${name}Rgb`] = hexToRgb(palette[name]);
}

const mix = (from, to, share) => from.map((channel, i) => channel + (to[i] - channel) * share);

// share in -1 .. 1, beyond which colours are full.
function diverging(share) {
  const size = Math.min(Math.abs(share), 1);
  return mix(palette.neutralRgb, share < 0 ? palette.negativeRgb : palette.positiveRgb, size);
}
// Magnitude alone, for gradients that fail the check of gradients.
const uncoloured = (share) => mix(palette.neutralRgb, palette.nullRgb, Math.min(Math.abs(share), 1));
const css = (rgb) => `rgb(${rgb.map(Math.round).join(" ")})`;

// Bright enough to be seen on dark frames, whatever the theme.
const OVER = { positive: [64, 160, 255], negative: [255, 84, 64], untrusted: [235, 235, 235] };

// The frame in dim grey, with the map in colour over it.
function overlaid(grey, share, opacity, untrusted) {
  const base = 46 + 0.6 * grey;
  return mix([base, base, base], untrusted ? OVER.untrusted : share < 0 ? OVER.negative : OVER.positive, Math.min(Math.abs(share), 1) * opacity);
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  byId("theme").textContent = theme === "dark" ? "Light" : "Dark";
  readPalette();
  update({ theme });
}
