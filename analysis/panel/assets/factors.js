// Regions that the maps of all samples are sums of, with the maps that have most of each.
function paintRegion(canvas, region, [height, width]) {
  paint(canvas, width, height, (p) => mix(palette.neutralRgb, palette.regionRgb, region[p] / 255));
}

function exampleButton({ sample, function: fn, step }, at) {
  const canvas = element("canvas"), map = part(table.example_map, at), name = FACTS.functions[fn].name;
  const [height, width] = SIDES(), smooth = blurred(map, height, width, 1);
  paintOverlay(canvas, part(table.example_obs, at), smooth, 0.4 * largest(smooth), 0.8, SIDES(), FACTS.functions[fn].untrusted);
  const button = element("button", { className: "example" }, canvas);
  button.dataset.tip = `sample ${FACTS.samples[sample].id}, ${name}, step ${step}`;
  button.setAttribute("aria-label", `Show ${button.dataset.tip}`);
  button.onclick = () => { stopPlaying(); hideTip(); byId("function").value = fn; showSample(sample, { fn, step }); byId("choose").scrollIntoView({ block: "start" }); };
  return button;
}

function regionCard(region, k, first) {
  const canvas = element("canvas", { role: "img" });
  canvas.setAttribute("aria-label", `Map of region ${k + 1}`);
  paintRegion(canvas, part(table.region, k), table.region.shape.slice(1));
  const stability = region.stable === null ? "stability untested" : `${region.stable ? "stable" : "unstable"}, cosine ${(Math.floor(100 * region.cosine) / 100).toFixed(2)}`;
  const most = Math.max(...region.by_function, 1e-12);
  const shares = element("div", { className: "by-function" });
  region.by_function.forEach((share, fn) => {
    const bar = element("i"); bar.style.width = `${100 * share / most}%`;
    shares.append(element("span", { title: FACTS.functions[fn].words }, FACTS.functions[fn].name), bar, element("b", {}, percent(share)));
  });
  return element("div", { className: "region" }, element("h3", {}, `Region ${k + 1}`), element("p", { className: "note" }, `${percent(region.share)} of all magnitude; ${stability}`),
    element("div", { className: "pictures" }, canvas, ...region.examples.map((example, i) => exampleButton(example, first + i))),
    element("details", {}, element("summary", {}, `share by function: ${percent(Math.min(...region.by_function))} to ${percent(most)}`), shares));
}

function drawFactors() {
  const { explained, draws, regions } = FACTS.factors;
  const tested = draws ? `Stable: median cosine of at least 0.9 over ${draws} refits on resampled levels.` : "Their stability is untested: it takes 20 levels or more.";
  byId("factors-words").textContent = `${regions.length} regions explain ${percent(explained)} of the sum of squares of the pooled magnitudes. ${tested} Order and number of regions are a choice.`;
  let first = 0;
  byId("gallery").replaceChildren(...regions.map((region, k) => { const card = regionCard(region, k, first); first += region.examples.length; return card; }));
}

function startFactors() {
  byId("factors").hidden = !FACTS.factors;
  if (FACTS.factors) onChange(["theme"], drawFactors);
}
