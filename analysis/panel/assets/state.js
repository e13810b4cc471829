// What is shown, and who redraws when it changes.
const STEPS = () => table.scores.shape[1];
const state = {
  sample: 0, clip: null, fn: 0, step: FACTS.sorting_step, playing: false,
  cluster: null, conditions: [], filterStep: null, matching: [],
  set: null, across: 0, up: 1, opacity: 0.8, smooth: 1, range: 0.4, ownScale: false, theme: "light",
};
const views = [];

// draw() runs whenever one of the keys changes.
function onChange(keys, draw) { views.push({ keys, draw }); }

function update(changes) {
  const changed = Object.keys(changes).filter((key) => state[key] !== changes[key]);
  Object.assign(state, changes);
  for (const { keys, draw } of views) if (keys.some((key) => changed.includes(key))) draw();
}

// The newest request wins: an older clip that is decoded later is dropped.
let asked = 0;
async function showSample(sample, more = {}) {
  const request = ++asked;
  const clip = await clipOf(sample);
  if (request === asked) update({ sample, clip, ...more });
}

const functionName = () => FACTS.functions[state.fn].name;
const functionSteps = () => FACTS.functions[state.fn].steps;  // later frames cannot matter
