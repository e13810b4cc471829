// A tour of the page. It can be left at any time, and nothing is remembered.
const TOUR = [
  ["choose", "Sample, function, cluster", "Choose a sample, the function whose gradient is shown, and a cluster of similar samples. The count says how many samples match the cluster and the filters below."],
  ["views", "Frame, saliency, overlay", "The frame that the agent saw; the gradient of the function with respect to its pixels; and both together. Point at a pixel to read its value."],
  ["player", "Player", "Play, or step with the arrow keys. Home and End go to the first and last step, space plays and pauses."],
  ["strips", "Strips", "All steps at once: frames above, maps below. The function is read at the step marked so; hatched steps come too late to matter. Click one to go there."],
  ["legend", "Scale", "Blue: a brighter pixel raises the function. Red: it lowers it. The ends are in the function's own units, and colours are full beyond them. Maps and bars whose gradient fails its check have no colour: they are not trusted."],
  ["looks", "How maps are shown", "Opacity of the overlay, smoothing, and the gradient at which colours are full. Faint steps show up when each step is scaled by itself."],
  ["space", "Directions", "Hidden states of all samples in two directions you choose, with the path of this sample. Below: its scores at this step, coloured by what more of a direction would do to the function."],
  ["filters", "Filters", "Keep samples whose scores or gradients lie in a range. All conditions have to hold at the same step. The matching samples are shown; click one."],
  ["factors", "What the agent attends to", "Regions that the maps of all samples are sums of, with the clearest examples. Click an example to look at it."],
].filter(([id]) => !byId(id).hidden);
let toured = null, returnTo = null;

const tourIsOpen = () => toured !== null;

function tourTo(place) {
  document.querySelector(".toured")?.classList.remove("toured");
  toured = place;
  const [id, title, text] = TOUR[place];
  byId("tour").hidden = false;
  byId("tour-title").textContent = title;
  byId("tour-text").textContent = text;
  byId("tour-place").textContent = `${place + 1} of ${TOUR.length}`;
  byId("tour-back").disabled = place === 0;
  byId("tour-next").textContent = place === TOUR.length - 1 ? "Done" : "Next";
  byId(id).classList.add("toured");
  byId(id).scrollIntoView({ block: byId(id).offsetHeight > window.innerHeight * 0.6 ? "start" : "center" });
  byId("tour-next").focus({ preventScroll: true });
}

function closeTour() {
  document.querySelector(".toured")?.classList.remove("toured");
  toured = null;
  byId("tour").hidden = true;
  returnTo?.focus();
}

const tourNext = () => (toured === TOUR.length - 1 ? closeTour() : tourTo(toured + 1));
const tourBack = () => tourTo(Math.max(toured - 1, 0));

function startTour() {
  byId("tour-start").onclick = () => { returnTo = byId("tour-start"); tourTo(0); };
  byId("tour-next").onclick = tourNext;
  byId("tour-back").onclick = tourBack;
  byId("tour-close").onclick = closeTour;
  document.addEventListener("keydown", (event) => {
    if (!tourIsOpen()) return;
    const act = { Escape: closeTour, ArrowRight: tourNext, ArrowLeft: tourBack }[event.key];
    if (act) { event.preventDefault(); act(); }
  });
}
