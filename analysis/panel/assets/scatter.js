// Hidden states of all samples in two directions, with the path of this sample.
const MOST_POINTS = 4000, MARGIN = { left: 46, right: 12, top: 12, bottom: 34 };
let placed = [];  // points that the pointer can find: {x, y, sample, step}

// The range of a direction: its middle 98%, widened by a fiftieth at both ends.
const ranges = new Map();
function rangeOf(direction) {
  if (!ranges.has(direction)) {
    const [samples, steps, count] = table.scores.shape;
    const values = Float32Array.from({ length: samples * steps }, (_, i) => table.scores.data[i * count + direction]);
    const low = quantile(values, 0.01), high = quantile(values, 0.99), wider = 0.02 * (high - low) || 1;
    ranges.set(direction, [low - wider, high + wider]);
  }
  return ranges.get(direction);
}

// Place of a score on an axis of the given length, clamped to it.
function along(value, [low, high], length) {
  const share = (value - low) / (high - low);
  return { at: Math.min(Math.max(share, 0), 1) * length, out: share < 0 || share > 1 };
}

function place(sample, step, width, height) {
  const row = part(table.scores, sample, step);
  const x = along(row[state.across], rangeOf(state.across), width), y = along(row[state.up], rangeOf(state.up), height);
  return { x: MARGIN.left + x.at, y: MARGIN.top + height - y.at, out: x.out || y.out, sample, step };
}

function dot(pen, { x, y, out }, size, colour) {
  pen.fillStyle = out ? palette.null : colour;
  if (out) { pen.fillRect(x - size, y - size, 2 * size, 2 * size); return; }
  pen.beginPath(); pen.arc(x, y, size, 0, 7); pen.fill();
}

function drawCloud(pen, width, height) {
  const [samples, steps] = table.scores.shape, every = Math.ceil(samples * steps / MOST_POINTS);
  const matching = new Set(state.matching);
  placed = [];
  for (let i = 0; i < samples * steps; i += every) {
    const point = place(Math.floor(i / steps), i % steps, width, height);
    pen.globalAlpha = matching.has(point.sample) ? 0.4 : 0.1;
    dot(pen, point, 1.8, palette.cloud);
    placed.push(point);
  }
  pen.globalAlpha = 1;
}

function drawPath(pen, width, height) {
  const path = Array.from({ length: STEPS() }, (_, t) => place(state.sample, t, width, height));
  const colour = FACTS.recorded ? palette.accent : palette.sim;  // real: solid blue; simulated: dashed orange
  pen.strokeStyle = colour; pen.lineWidth = 1.6; pen.setLineDash(FACTS.recorded ? [] : [5, 3]);
  pen.beginPath(); path.forEach(({ x, y }, t) => (t ? pen.lineTo(x, y) : pen.moveTo(x, y))); pen.stroke();
  pen.setLineDash([]);
  for (const point of path) dot(pen, point, 3.2, colour);
  const now = path[state.step];
  pen.strokeStyle = palette.ink; pen.lineWidth = 2; pen.beginPath(); pen.arc(now.x, now.y, 7.5, 0, 7); pen.stroke();
  placed.push(...path);
}

function drawAxes(pen, width, height) {
  pen.strokeStyle = palette.rule; pen.lineWidth = 1; pen.strokeRect(MARGIN.left, MARGIN.top, width, height);
  const zero = [along(0, rangeOf(state.across), width), along(0, rangeOf(state.up), height)];
  pen.beginPath();
  if (!zero[0].out) { pen.moveTo(MARGIN.left + zero[0].at, MARGIN.top); pen.lineTo(MARGIN.left + zero[0].at, MARGIN.top + height); }
  if (!zero[1].out) { pen.moveTo(MARGIN.left, MARGIN.top + height - zero[1].at); pen.lineTo(MARGIN.left + width, MARGIN.top + height - zero[1].at); }
  pen.stroke();
  pen.fillStyle = palette.quiet; pen.font = "11px Helvetica, Arial, sans-serif"; pen.textAlign = "center";
  const [left, right] = rangeOf(state.across), [bottom, top] = rangeOf(state.up), base = MARGIN.top + height;
  pen.textAlign = "left"; pen.fillText(short(left), MARGIN.left, base + 13);
  pen.textAlign = "right"; pen.fillText(short(right), MARGIN.left + width, base + 13);
  pen.fillText(short(top), MARGIN.left - 5, MARGIN.top + 9); pen.fillText(short(bottom), MARGIN.left - 5, base);
  pen.fillStyle = palette.ink; pen.textAlign = "center"; pen.font = "12px Helvetica, Arial, sans-serif";
  pen.fillText(FACTS.directions[state.across].name, MARGIN.left + width / 2, base + 26);
  pen.save(); pen.translate(14, MARGIN.top + height / 2); pen.rotate(-Math.PI / 2); pen.fillText(FACTS.directions[state.up].name, 0, 0); pen.restore();
}

function drawScatter() {
  const canvas = byId("scatter"), box = canvas.getBoundingClientRect(), dense = window.devicePixelRatio || 1;
  canvas.width = Math.round(box.width * dense); canvas.height = Math.round(box.height * dense);
  const pen = canvas.getContext("2d"), width = box.width - MARGIN.left - MARGIN.right, height = box.height - MARGIN.top - MARGIN.bottom;
  if (width < 10) return;
  pen.setTransform(dense, 0, 0, dense, 0, 0);
  drawAxes(pen, width, height); drawCloud(pen, width, height); drawPath(pen, width, height);
  canvas.setAttribute("aria-label", `Hidden states in ${FACTS.directions[state.across].name} and ${FACTS.directions[state.up].name}, with the path of ${FACTS.samples[state.sample].words}`);
}

function nearestPoint(x, y) {
  const box = byId("scatter").getBoundingClientRect();
  let best = null, distance = 12;
  for (const point of placed) {
    const far = Math.hypot(point.x - x * box.width, point.y - y * box.height);
    if (far <= distance) { best = point; distance = far; }
  }
  return best;
}

function pointWords(x, y) {
  const point = nearestPoint(x, y);
  if (!point) return "";
  const row = part(table.scores, point.sample, point.step);
  const scores = [state.across, state.up].map((direction) => `${FACTS.directions[direction].name} ${short(row[direction])}`);
  return `sample ${FACTS.samples[point.sample].id}, step ${point.step}\n${scores.join(", ")}${point.out ? "\nbeyond the axes" : ""}`;
}

function directionOptions(select, chosen) {
  const sets = [...new Set(FACTS.directions.map(({ set }) => set))];
  select.replaceChildren(...sets.map((set) => {
    const group = element("optgroup", { label: set });
    FACTS.directions.forEach((direction, i) => { if (direction.set === set) group.append(new Option(direction.name, i, false, i === chosen)); });
    return group;
  }));
}

function startScatter() {
  if (FACTS.directions.length < 2) state.up = 0;
  for (const axis of ["across", "up"]) {
    directionOptions(byId(axis), state[axis]);
    byId(axis).onchange = () => update({ [axis]: Number(byId(axis).value) });
  }
  tipOnCanvas(byId("scatter"), pointWords);
  byId("scatter").onclick = (event) => {
    const box = byId("scatter").getBoundingClientRect();
    const point = nearestPoint((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
    if (point) { stopPlaying(); showSample(point.sample, { step: point.step }); }
  };
  onChange(["clip", "step", "across", "up", "matching", "theme"], drawScatter);
  window.addEventListener("resize", drawScatter);
}
