// Conditions on scores and gradients; a sample matches if all of them hold at one and the same step.
const BINS = 48;
const quantities = () => [["scores", "score"], ...FACTS.functions.map(({ name, words, untrusted }) => [`gradient/${name}`, `gradient of ${words}${untrusted ? " (not trusted)" : ""}`])];

function holds({ quantity, direction, low, high }, sample, step) {
  const array = table[quantity];
  if (step >= array.shape[1]) return false;  // too late to matter: there is no gradient
  const value = part(array, sample, step)[direction];
  return (low === null || value >= low) && (high === null || value <= high);
}

const limited = ({ low, high }) => low !== null || high !== null;

function meetsConditions(sample) {
  const conditions = state.conditions.filter(limited);
  if (!conditions.length) return true;
  const steps = state.filterStep === null ? Array.from({ length: STEPS() }, (_, t) => t) : [state.filterStep];
  return steps.some((step) => conditions.every((condition) => holds(condition, sample, step)));
}

function findMatching() {
  const matching = FACTS.samples.map((_, i) => i).filter((i) => (state.cluster === null || table.cluster.data[i] === state.cluster) && meetsConditions(i));
  update({ matching });
}

// All values of a condition's quantity and direction, at the chosen step or at all.
function valuesOf({ quantity, direction }) {
  const { data, shape: [samples, steps, count] } = table[quantity], values = [];
  for (let i = 0; i < samples; i++) for (let t = 0; t < steps; t++) {
    if (state.filterStep === null || state.filterStep === t) values.push(data[(i * steps + t) * count + direction]);
  }
  return values;
}

function drawHistogram(canvas, condition, [from, to]) {
  const counts = new Array(BINS).fill(0), width = BINS * 6, height = 48, pen = canvas.getContext("2d");
  canvas.width = width; canvas.height = height;
  for (const value of valuesOf(condition)) counts[Math.min(Math.floor((value - from) / (to - from) * BINS), BINS - 1)]++;
  const most = Math.max(...counts, 1);
  counts.forEach((count, bin) => {
    const middle = from + (bin + 0.5) / BINS * (to - from);
    const inside = (condition.low === null || middle >= condition.low) && (condition.high === null || middle <= condition.high);
    pen.fillStyle = inside ? palette.accent : palette.rule;
    const tall = Math.sqrt(count / most) * (height - 4);  // square root: rare values stay visible
    pen.fillRect(bin * 6, height - tall, 5, tall);
  });
}

function changeCondition(index, changes) {
  update({ conditions: state.conditions.map((condition, i) => (i === index ? { ...condition, ...changes } : condition)) });
}

function bound(index, key, words) {
  const input = element("input", { type: "number", step: "any", placeholder: "any" });
  input.setAttribute("aria-label", words);
  input.oninput = () => changeCondition(index, { [key]: input.value === "" || !Number.isFinite(input.valueAsNumber) ? null : input.valueAsNumber });
  return input;
}

function thumb(index, key, words, [from, to]) {
  const input = element("input", { type: "range", min: 0, max: 200, value: key === "low" ? 0 : 200 });
  input.setAttribute("aria-label", words);
  input.oninput = () => {
    const atEnd = Number(input.value) === (key === "low" ? 0 : 200);
    changeCondition(index, { [key]: atEnd ? null : Number((from + input.value / 200 * (to - from)).toPrecision(4)) });
  };
  return input;
}

// One row of controls. Its own limits are written back by refreshCondition, so that typing is not disturbed.
function conditionRow(condition, index) {
  const quantity = element("select"), direction = element("select"), canvas = element("canvas");
  quantities().forEach(([key, words]) => quantity.add(new Option(words, key, false, key === condition.quantity)));
  directionOptions(direction, condition.direction);
  quantity.setAttribute("aria-label", `Condition ${index + 1}: quantity`);
  direction.setAttribute("aria-label", `Condition ${index + 1}: direction`);
  quantity.onchange = () => { changeCondition(index, { quantity: quantity.value, low: null, high: null }); makeConditions(); };
  direction.onchange = () => { changeCondition(index, { direction: Number(direction.value), low: null, high: null }); makeConditions(); };
  const range = extremes(valuesOf(condition));
  if (range[0] === range[1]) range[1] += 1e-6 + Math.abs(range[0]) * 1e-6;
  const slider = element("div", { className: "slider" }, canvas, thumb(index, "low", "Lower limit", range), thumb(index, "high", "Upper limit", range));
  const between = element("div", { className: "between" }, bound(index, "low", "At least"), "to", bound(index, "high", "At most"));
  const remove = element("button", {}, "✕");
  remove.setAttribute("aria-label", `Remove condition ${index + 1}`);
  remove.onclick = () => { update({ conditions: state.conditions.filter((_, i) => i !== index) }); makeConditions(); };
  const row = element("div", { className: "condition" }, quantity, direction, slider, between, remove);
  row.range = range;
  return row;
}

function refreshCondition(row, condition) {
  const [from, to] = row.range, [low, high] = row.querySelectorAll("input[type=number]"), [left, right] = row.querySelectorAll("input[type=range]");
  for (const [input, slide, value, end] of [[low, left, condition.low, 0], [high, right, condition.high, 200]]) {
    if (document.activeElement !== input) input.value = value === null ? "" : value;
    if (document.activeElement !== slide) slide.value = value === null ? end : (value - from) / (to - from) * 200;
  }
  drawHistogram(row.querySelector("canvas"), condition, row.range);
}

function refreshConditions() { [...byId("conditions").children].forEach((row, i) => { if (state.conditions[i]) refreshCondition(row, state.conditions[i]); }); }

function makeConditions() {
  byId("conditions").replaceChildren(...state.conditions.map(conditionRow));
  refreshConditions();
}

function addCondition() {
  update({ conditions: [...state.conditions, { quantity: "scores", direction: state.across, low: null, high: null }] });
  makeConditions();
}

function startFilters() {
  byId("filter-step").add(new Option("any one step", ""));
  for (let t = 0; t < STEPS(); t++) byId("filter-step").add(new Option(`step ${t}${t === FACTS.step ? " (read)" : ""}`, t));
  byId("filter-step").onchange = () => { update({ filterStep: byId("filter-step").value === "" ? null : Number(byId("filter-step").value) }); makeConditions(); };
  byId("add-condition").onclick = addCondition;
  byId("clear-conditions").onclick = () => { update({ conditions: [] }); addCondition(); };
  onChange(["conditions", "filterStep", "cluster"], findMatching);
  onChange(["conditions", "theme"], refreshConditions);
  addCondition();
}
