// Decodes the table, starts every part, and shows the first sample.
async function main() {
  Object.assign(table, await unpack(byId("table").textContent, FACTS.table));
  byId("about").textContent = FACTS.about;
  setTheme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  byId("theme").onclick = () => setTheme(state.theme === "dark" ? "light" : "dark");
  for (const start of [startPictures, startPlayer, startScatter, startBars, startSamples, startFilters, startFactors, startTour]) start();
  await showSample(0);
  findMatching();
  if (FACTS.factors) drawFactors();
  startTips();
  document.documentElement.dataset.ready = "yes";
}

main().catch((error) => {
  byId("problem").hidden = false;
  byId("problem").textContent = typeof DecompressionStream === "undefined"
    ? "This browser cannot decompress the page's data: it lacks DecompressionStream, which browsers have had since 2023."
    : `The page could not be shown: ${error.message}`;
});
