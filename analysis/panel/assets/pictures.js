// Frames, maps and overlays, large and as strips, and the legend of the signed scale.
const SIDES = () => FACTS.clip[0].shape.slice(1);  // H, W, C

// Paints a canvas of width x height pixels; rgbAt(pixel) gives its colour.
function paint(canvas, width, height, rgbAt) {
  canvas.width = width;
  canvas.height = height;
  const image = new ImageData(width, height);
  for (let pixel = 0; pixel < width * height; pixel++) {
    const [r, g, b] = rgbAt(pixel);
    image.data[4 * pixel] = r; image.data[4 * pixel + 1] = g; image.data[4 * pixel + 2] = b; image.data[4 * pixel + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function paintFrame(canvas, frame, [height, width, channels]) {
  const blue = channels > 2 ? 2 : 0, green = channels > 2 ? 1 : 0;
  paint(canvas, width, height, (p) => [frame[p * channels], frame[p * channels + green], frame[p * channels + blue]]);
}

function paintOverlay(canvas, frame, map, range, opacity, [height, width, channels], untrusted = false) {
  paint(canvas, width, height, (p) => {
    let grey = 0;
    for (let c = 0; c < channels; c++) grey += frame[p * channels + c] / channels;
    return overlaid(grey, map ? map[p] / range : 0, opacity, untrusted);
  });
}

// Gaussian blur of one map, edges repeated; sigma 0 leaves it as it is.
function blurred(map, height, width, sigma) {
  if (!sigma) return Float32Array.from(map);
  const reach = Math.ceil(2.5 * sigma), weights = [];
  for (let d = -reach; d <= reach; d++) weights.push(Math.exp(-d * d / (2 * sigma * sigma)));
  const total = weights.reduce((sum, weight) => sum + weight), clamp = (at, side) => Math.min(Math.max(at, 0), side - 1);
  const across = new Float32Array(map.length), both = new Float32Array(map.length);
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
    for (let d = -reach; d <= reach; d++) across[y * width + x] += weights[d + reach] / total * map[y * width + clamp(x + d, width)];
  }
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
    for (let d = -reach; d <= reach; d++) both[y * width + x] += weights[d + reach] / total * across[clamp(y + d, height) * width + x];
  }
  return both;
}

const isUntrusted = () => FACTS.functions[state.fn].untrusted;
const mapColour = (share) => (isUntrusted() ? uncoloured : diverging)(share);

const isZero = (values) => !values.some((value) => value !== 0);

// The maps of this sample and function, in the function's units, as they are shown. zero: whether all of them are.
let shown = { maps: [], peak: 1, zero: false };
function prepareMaps() {
  const [height, width] = SIDES(), stored = state.clip[`map/${functionName()}`];
  const unit = table[`scale/${functionName()}`].data[state.sample] / 127;
  const maps = Array.from({ length: functionSteps() }, (_, t) => blurred(part(stored, t), height, width, state.smooth).map((value) => value * unit));
  shown = { maps, peak: Math.max(...maps.map(largest)), zero: maps.every(isZero) };
}

const rangeAt = (t) => state.range * (state.ownScale && shown.maps[t] ? largest(shown.maps[t]) : shown.peak);

// Whether there is nothing to scale: in this step's map, if each step is scaled by itself, or in any.
const hasNoScale = () => (state.ownScale && shown.maps[state.step] ? isZero(shown.maps[state.step]) : shown.zero);

// What is to be known of a map before it is read.
function mapMarks(map) {
  if (!map) return [shown.zero ? "all zero" : "too late to matter"];
  return [isZero(map) ? "all zero" : "", isUntrusted() ? "not trusted" : ""].filter(Boolean);
}

function drawViews() {
  const sides = SIDES(), [height, width] = sides, t = state.step, frame = part(state.clip.obs, t), map = shown.maps[t];
  paintFrame(byId("frame"), frame, sides);
  paint(byId("map"), width, height, (p) => mapColour(map ? map[p] / rangeAt(t) : 0));
  paintOverlay(byId("overlay"), frame, map, rangeAt(t), state.opacity, sides, isUntrusted());
  byId("map-caption").textContent = ["Saliency", mapMarks(map).join(", ")].filter(Boolean).join(": ");
  byId("frame").setAttribute("aria-label", `Frame at step ${t}`);
  byId("map").setAttribute("aria-label", map ? `Gradient of ${FACTS.functions[state.fn].words} at step ${t}` : `Step ${t} is too late to matter`);
  byId("overlay").setAttribute("aria-label", "Frame in grey with the map over it");
}

function drawLegend() {
  const range = rangeAt(state.step), words = FACTS.functions[state.fn].words;
  for (const id of ["legend-bar", "legend-ends"]) byId(id).hidden = hasNoScale();
  paint(byId("legend-bar"), 256, 1, (p) => mapColour(isUntrusted() ? p / 255 : (p - 127.5) / 127.5));
  byId("legend-low").textContent = isUntrusted() ? "0" : `≤ ${short(-range)}`;
  byId("legend-zero").hidden = isUntrusted();
  byId("legend-high").textContent = `≥ ${isUntrusted() ? short(range) : signed(range)}`;
  byId("legend-words").textContent = hasNoScale() ? `All zero: no pixel of ${shown.zero ? "any frame" : "this frame"} changes the ${words}.`
    : `Change of the ${words} per unit of a pixel's brightness (0 to 1, channels summed)` + (state.smooth ? ", smoothed. " : ". ") + (isUntrusted() ? "Not trusted: fails the check of gradients, so only its size is shown." : "Blue: brighter raises it; red: brighter lowers it.");
  byId("opacity-words").textContent = `${percent(state.opacity)}`;
  byId("smooth-words").textContent = state.smooth ? `${state.smooth} px` : "off";
  byId("range-words").textContent = `${percent(state.range)} of peak`;
}

function drawStrips() {
  const sides = SIDES(), [height, width] = sides;
  byId("strips").replaceChildren(...Array.from({ length: STEPS() }, (_, t) => {
    const frame = element("canvas"), map = shown.maps[t] ? element("canvas") : element("div", { className: "late" });
    paintFrame(frame, part(state.clip.obs, t), sides);
    if (shown.maps[t]) paint(map, width, height, (p) => mapColour(shown.maps[t][p] / rangeAt(t)));
    const cell = element("button", { tabIndex: -1, className: t === FACTS.step ? "read" : "" }, frame, map, String(t));
    cell.setAttribute("aria-label", `Step ${t}${t === FACTS.step ? ", at which the function is read" : ""}`);
    cell.onclick = () => goTo(t);
    return cell;
  }));
  markStep();
}

function markStep() {
  [...byId("strips").children].forEach((cell, t) => cell.classList.toggle("now", t === state.step));
  const now = byId("strips").children[state.step], strip = byId("strips");
  if (now) strip.scrollLeft = Math.min(strip.scrollLeft, now.offsetLeft - strip.offsetLeft) + Math.max(0, now.offsetLeft - strip.offsetLeft + now.offsetWidth - strip.clientWidth - Math.min(strip.scrollLeft, now.offsetLeft - strip.offsetLeft));
}

function pixelWords(x, y) {
  const [height, width] = SIDES(), column = Math.floor(x * width), row = Math.floor(y * height), map = shown.maps[state.step];
  if (!map || column < 0 || row < 0 || column >= width || row >= height) return "";
  return `column ${column}, row ${row}: ${signed(map[row * width + column])}`;
}

function startPictures() {
  onChange(["clip", "fn", "smooth"], prepareMaps);
  onChange(["clip", "fn", "smooth", "step", "range", "ownScale", "opacity", "theme"], () => { drawViews(); drawLegend(); });
  onChange(["clip", "fn", "smooth", "range", "ownScale", "theme"], drawStrips);
  onChange(["step"], markStep);
  for (const id of ["map", "overlay"]) tipOnCanvas(byId(id), pixelWords);
  for (const [id, key, scale] of [["opacity", "opacity", 0.01], ["smooth", "smooth", 1], ["range", "range", 0.01]]) {
    byId(id).oninput = () => update({ [key]: byId(id).value * scale });
  }
  byId("own-scale").onchange = () => update({ ownScale: byId("own-scale").checked });
}
