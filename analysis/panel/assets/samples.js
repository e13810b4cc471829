// Choice of sample, function and cluster, the live count, and small pictures of the matching samples.
const MOST_THUMBS = 120;

function drawSampleOptions() {
  const listed = state.matching.includes(state.sample) ? state.matching : [state.sample, ...state.matching];
  byId("sample").replaceChildren(...listed.map((i) => {
    const words = FACTS.samples[i].words + (state.matching.includes(i) ? "" : " (does not match)");
    return new Option(words, i, false, i === state.sample);
  }));
}

function drawCount() {
  const count = state.matching.length, total = FACTS.samples.length;
  byId("count").textContent = `${count} of ${total} samples match`;
  byId("matching-title").textContent = count > MOST_THUMBS ? `Matching samples, the first ${MOST_THUMBS} of ${count}` : "Matching samples";
}

function drawThumbs() {
  const sides = table.thumb.shape.slice(1);
  byId("thumbs").replaceChildren(...state.matching.slice(0, MOST_THUMBS).map((i) => {
    const canvas = element("canvas");
    paintFrame(canvas, part(table.thumb, i), sides);
    const button = element("button", { tabIndex: -1, className: i === state.sample ? "now" : "" }, canvas, String(FACTS.samples[i].id));
    button.setAttribute("aria-label", FACTS.samples[i].words);
    button.dataset.sample = i;
    button.onclick = () => showSample(i);
    return button;
  }));
  if (!state.matching.length) byId("thumbs").append(element("p", { className: "note" }, "No sample matches: widen a range, or choose another cluster."));
}

function markThumb() { for (const button of byId("thumbs").querySelectorAll("button")) button.classList.toggle("now", Number(button.dataset.sample) === state.sample); }

// The next or previous matching sample, around the ends.
function neighbour(by) {
  const { matching, sample } = state;
  if (!matching.length) return;
  const after = matching.filter((i) => (by > 0 ? i > sample : i < sample));
  showSample(after.length ? after[by > 0 ? 0 : after.length - 1] : matching[by > 0 ? 0 : matching.length - 1]);
}

function chooseCluster() {
  const cluster = byId("cluster").value === "" ? null : Number(byId("cluster").value);
  update({ cluster });
  if (state.matching.length && !state.matching.includes(state.sample)) showSample(state.matching[0]);
}

function startSamples() {
  FACTS.functions.forEach(({ name, words, untrusted }, i) => byId("function").add(new Option((words === name ? name : `${name}: ${words}`) + (untrusted ? " (not trusted)" : ""), i)));
  byId("function").onchange = () => update({ fn: Number(byId("function").value) });
  byId("sample").onchange = () => showSample(Number(byId("sample").value));
  byId("next").onclick = () => neighbour(1);
  byId("previous").onclick = () => neighbour(-1);
  const clusters = [...new Set(table.cluster.data)].sort((a, b) => a - b);
  byId("cluster").add(new Option(`all ${clusters.length}`, ""));
  clusters.forEach((cluster) => byId("cluster").add(new Option(`${cluster} (${table.cluster.data.filter((c) => c === cluster).length})`, cluster)));
  byId("cluster").dataset.tip = `Samples of one cluster: ${FACTS.cluster_source}`;
  byId("cluster").onchange = chooseCluster;
  onChange(["matching"], () => { drawCount(); drawThumbs(); drawSampleOptions(); });
  onChange(["sample"], () => { drawSampleOptions(); markThumb(); });
}
