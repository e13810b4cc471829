// Scores of the directions at this step, coloured by the gradient of the function.
function shownDirections() { return FACTS.directions.map((_, i) => i).filter((i) => FACTS.directions[i].set === state.set); }

// Largest |score| of any sample, and largest |gradient| of this sample, among the directions shown.
function barRanges(directions) {
  const count = table.scores.shape[2], gradient = table[`gradient/${functionName()}`];
  let score = 1e-12, slope = 1e-12;
  table.scores.data.forEach((value, i) => { if (directions.includes(i % count)) score = Math.max(score, Math.abs(value)); });
  part(gradient, state.sample).forEach((value, i) => { if (directions.includes(i % count)) slope = Math.max(slope, Math.abs(value)); });
  return { score, slope };
}

// What the colours of bars say of the gradient.
function slopeWords() {
  const { words } = FACTS.functions[state.fn];
  if (barRange.slope <= 1e-12) return `no score changes the ${words}: all gradients are zero.`;
  const scale = `${isUntrusted() ? "full grey" : "colours"} at ±${short(barRange.slope)} of the ${words} per unit of score.`;
  return isUntrusted() ? `${scale} Not trusted: fails the check of gradients, so only its size is shown.` : scale;
}

let barRange = { score: 1, slope: 1 };
function makeBars() {
  const directions = shownDirections();
  barRange = barRanges(directions);
  const head = element("div", { className: "bar head" }, element("span", {}, "direction"), element("span"), element("span", { className: "number" }, "score"), element("span", { className: "number" }, "gradient"));
  byId("bars").replaceChildren(head, ...directions.map((i) => {
    const { name, status } = FACTS.directions[i];
    const label = element("span", { className: status === "stable" ? "" : "unstable", title: `${name}, ${status}` }, name);
    return element("div", { className: "bar" }, label, element("div", { className: "track" }, element("i")), element("span", { className: "number" }), element("span", { className: "number" }));
  }));
  const states = new Set(directions.map((i) => FACTS.directions[i].status));
  const stability = states.size === 1 ? `Stability over resampled levels: ${[...states][0]}.` : "Grey names: not stable over resampled levels.";
  byId("bar-legend").textContent = `Bars end at ±${short(barRange.score)}; ${slopeWords()} ${stability}`;
  drawBars();
}

function drawBars() {
  const rows = [...byId("bars").querySelectorAll(".bar:not(.head)")], late = state.step >= functionSteps();
  const scores = part(table.scores, state.sample, state.step);
  const slopes = late ? null : part(table[`gradient/${functionName()}`], state.sample, state.step);
  shownDirections().forEach((direction, row) => {
    const [, track, score, gradient] = rows[row].children, bar = track.firstChild, share = scores[direction] / barRange.score / 2;
    bar.style.left = `${50 + 100 * Math.min(share, 0)}%`;
    bar.style.width = `${100 * Math.abs(share)}%`;
    rows[row].classList.toggle("late", late);
    rows[row].classList.toggle("untrusted", isUntrusted());
    bar.style.background = late ? "" : css(mapColour(slopes[direction] / barRange.slope));
    score.textContent = short(scores[direction]);
    gradient.textContent = late ? "—" : signed(slopes[direction]);
  });
}

function startBars() {
  const sets = [...new Set(FACTS.directions.map(({ set }) => set))];
  sets.forEach((set) => byId("set").add(new Option(set, set)));
  byId("set-label").hidden = sets.length < 2;
  byId("set").onchange = () => update({ set: byId("set").value });
  onChange(["clip", "fn", "set", "theme"], makeBars);
  onChange(["step"], drawBars);
  update({ set: sets[0] });
}
