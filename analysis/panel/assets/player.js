// Steps: play and pause, keys, slider, and what happened at the step.
const STEP_MS = 250, REST_MS = 1000;  // REST_MS at the last step
const ICONS = { play: "M3 1.5v13l11-6.5z", pause: "M3 2h3.5v12H3zM9.5 2H13v12H9.5z" };
let timer = null;

function goTo(step) { stopPlaying(); update({ step: Math.min(Math.max(step, 0), STEPS() - 1) }); }

function tick() {
  update({ step: (state.step + 1) % STEPS() });
  timer = setTimeout(tick, state.step === STEPS() - 1 ? REST_MS : STEP_MS);
}

function startPlaying() { update({ playing: true }); timer = setTimeout(tick, STEP_MS); }
function stopPlaying() { clearTimeout(timer); update({ playing: false }); }
function togglePlaying() { if (state.playing) stopPlaying(); else startPlaying(); }

function arrowGlyph(arrow) {
  const [dx, dy] = arrow, turn = Math.atan2(dy, dx) * 180 / Math.PI;
  const shape = dx || dy
    ? `<g transform="rotate(${turn} 12 12)"><path d="M3 12h13" stroke="currentColor" stroke-width="3"/><path d="M13 5.5l8.5 6.5-8.5 6.5z" fill="currentColor"/></g>`
    : '<circle cx="12" cy="12" r="4" fill="currentColor"/>';
  return `<svg viewBox="0 0 24 24" aria-hidden="true">${shape}</svg>`;
}

function drawStepFacts() {
  const t = state.step, action = part(table.action, state.sample)[t], glyph = FACTS.actions[action];
  const rows = [["action", `${glyph.name} (${percent(part(table.probability, state.sample, t)[action])})`]];
  for (const [name, words, show] of [
    ["value", "value", short], ["reward", "reward", (reward) => reward.toFixed(2)], ["done", FACTS.recorded ? "end" : "P(end)", (p) => (FACTS.recorded ? (p ? "yes" : "no") : p > 0 && p < 0.001 ? "< 0.1%" : `${(100 * p).toFixed(1)}%`)],
  ]) if (table[name] && Number.isFinite(part(table[name], state.sample)[t])) rows.push([words, show(part(table[name], state.sample)[t])]);
  byId("at-step").replaceChildren(...rows.map(([name, text]) => element("div", {}, element("dt", {}, name), element("dd", {}, text))));
  if (glyph.arrow) byId("at-step").querySelector("dd").insertAdjacentHTML("afterbegin", arrowGlyph(glyph.arrow) + " ");
  byId("step").value = t;
  const read = t === FACTS.step ? " · read" : "";
  const ended = table.length && t >= table.length.data[state.sample] ? " · after the end" : "";
  byId("step-words").textContent = `step ${t} of ${STEPS() - 1}${read}${ended}`;
}

function drawPlay() {
  byId("play-icon").setAttribute("d", state.playing ? ICONS.pause : ICONS.play);
  byId("play").setAttribute("aria-label", state.playing ? "Pause" : "Play");
}

const KEYS = {
  ArrowRight: () => goTo(state.step + 1), ArrowLeft: () => goTo(state.step - 1),
  Home: () => goTo(0), End: () => goTo(STEPS() - 1), " ": togglePlaying,
  n: () => neighbour(1), p: () => neighbour(-1), N: () => neighbour(1), P: () => neighbour(-1),
};

// Keys that a focused control uses itself are left to it.
function ownKey(target, key) {
  if (target.matches("select, textarea, input:not([type=checkbox], #step)")) return true;
  return key === " " && target.matches("button, input[type=checkbox]");
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key] || tourIsOpen() || ownKey(event.target, event.key)) return;
  event.preventDefault();
  KEYS[event.key]();
}

function startPlayer() {
  byId("step").max = STEPS() - 1;
  byId("step").oninput = () => goTo(Number(byId("step").value));
  byId("play").onclick = togglePlaying;
  document.addEventListener("keydown", onKey);
  onChange(["clip", "step"], drawStepFacts);
  onChange(["playing"], drawPlay);
  drawPlay();
}
