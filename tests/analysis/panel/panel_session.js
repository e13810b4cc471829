// Uses the panel as a person would, by clicks, keys and input events, and returns what it then shows.
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const until = async (condition) => { for (let i = 0; i < 400 && !condition(); i++) await wait(10); return condition(); };
const press = (key, target = document.body) => target.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
const choose = (id, value) => { byId(id).value = value; byId(id).dispatchEvent(new Event("change", { bubbles: true })); };
const type = (input, value) => { input.value = value; input.dispatchEvent(new Event("input", { bubbles: true })); };
const pixels = (id) => { const canvas = byId(id); return [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data]; };
const text = (id) => byId(id).textContent;
const ready = () => document.documentElement.dataset.ready === "yes";
const seen = {};

await until(ready);
seen.problem = !byId("problem").hidden;
seen.first = { count: text("count"), step: text("step-words"), sample: byId("sample").selectedOptions[0].textContent };
seen.decoded = { obs: [...state.clip.obs.data.slice(0, 500)], scores: [...table.scores.data] };
type(byId("smooth"), 0);
seen.frame = pixels("frame");
seen.map = pixels("map");
seen.legend = [text("legend-low"), text("legend-high")];
type(byId("opacity"), 0);
seen.plainOverlay = pixels("overlay");
type(byId("opacity"), 100);
seen.fullOverlay = pixels("overlay");

choose("sample", 5);
await until(() => state.sample === 5);
seen.sample = { words: byId("sample").selectedOptions[0].textContent, frame: pixels("frame"), facts: text("at-step") };
choose("function", 2);
seen.otherFunction = { map: pixels("map"), words: text("legend-words"), bars: text("bars") };
FACTS.functions[1].untrusted = true;
choose("function", 1);
const barColours = () => [...byId("bars").querySelectorAll(".bar:not(.head) i")].map((bar) => bar.style.background);
const scaleHidden = () => ["legend-bar", "legend-ends"].map((id) => byId(id).hidden);
seen.untrusted = { map: pixels("map"), overlay: pixels("overlay"), words: text("legend-words"), bars: barColours(), barWords: text("bar-legend"), caption: text("map-caption"), legend: ["legend-low", "legend-zero", "legend-high"].filter((id) => !byId(id).hidden).map(text) };
FACTS.functions[1].untrusted = false;
choose("function", 0);
seen.captionOfTrusted = text("map-caption");
state.clip["map/leftwards"].data.fill(0);
part(table["gradient/leftwards"], state.sample).fill(0);
choose("function", 1);
seen.zero = { words: text("legend-words"), hidden: scaleHidden(), caption: text("map-caption"), barWords: text("bar-legend") };
choose("function", 0);
part(state.clip["map/leftwards"], 0).fill(100);  // another step than the one shown
choose("function", 1);
seen.zeroStep = { words: text("legend-words"), hidden: scaleHidden(), caption: text("map-caption") };
byId("own-scale").click();
seen.zeroStepOwn = { words: text("legend-words"), hidden: scaleHidden() };
byId("own-scale").click();
choose("function", 2);

seen.keys = [];
for (const key of ["Home", "ArrowRight", "ArrowRight", "ArrowLeft", "End", "ArrowRight"]) { press(key); seen.keys.push(state.step); }
seen.late = { bars: byId("bars").querySelectorAll(".late").length, words: byId("map").getAttribute("aria-label") };
press("ArrowLeft", byId("sample"));
seen.keyInSelect = state.step;
press("Home"); press(" ");
const played = [state.playing];
for (let i = 0; i < 3; i++) { await wait(250); played.push(state.step); }
press(" ");
await wait(600);
seen.played = { steps: played, paused: state.step, playing: state.playing };
byId("strips").children[2].click();
seen.strip = { step: state.step, marked: [...byId("strips").children].map((cell) => cell.className) };
seen.barsAtTwo = [...byId("bars").querySelectorAll(".bar:not(.head)")].map((row) => [...row.querySelectorAll(".number")].map((cell) => cell.textContent));
seen.barColours = [...byId("bars").querySelectorAll(".bar:not(.head) i")].map((bar) => bar.style.background);

const filters = JSON.parse(FILTERS);
seen.counts = [];
for (const { step, conditions } of filters) {
  byId("clear-conditions").click();
  choose("filter-step", step === null ? "" : step);
  conditions.forEach(({ quantity, direction, low, high }, i) => {
    if (i) byId("add-condition").click();
    const row = () => byId("conditions").children[i];
    const [what, which] = row().querySelectorAll("select");
    what.value = quantity; what.dispatchEvent(new Event("change"));
    const again = row().querySelectorAll("select")[1];
    again.value = direction; again.dispatchEvent(new Event("change"));
    const [least, most] = row().querySelectorAll("input[type=number]");
    if (low !== null) type(least, low);
    if (high !== null) type(most, high);
  });
  seen.counts.push({ words: text("count"), matching: [...state.matching], thumbs: byId("thumbs").querySelectorAll("button").length });
}
byId("clear-conditions").click();
choose("filter-step", "");
const slide = byId("conditions").querySelector("input[type=range]");
type(slide, 100);
seen.slider = { low: state.conditions[0].low, shown: byId("conditions").querySelector("input[type=number]").value, count: text("count") };
byId("clear-conditions").click();

choose("cluster", 1);
await until(() => state.matching.includes(state.sample));
seen.cluster = { count: text("count"), matching: [...state.matching], sample: state.sample, options: byId("sample").options.length };
const before = state.sample;
press("n");
await until(() => state.sample !== before);
seen.next = state.sample;
choose("cluster", "");

choose("across", 2);
const inScatter = byId("scatter").getBoundingClientRect();
const target = placed[placed.length - 1];
byId("scatter").dispatchEvent(new MouseEvent("click", { clientX: inScatter.left + target.x, clientY: inScatter.top + target.y, bubbles: true }));
await until(() => state.step === target.step && state.sample === target.sample);
seen.scatter = { target: [target.sample, target.step], found: [state.sample, state.step], out: placed.filter((point) => point.out).map(({ x, y }) => [x, y]), box: [inScatter.width, inScatter.height] };

const example = byId("gallery").querySelectorAll(".example")[1];
example.click();
await until(() => example.dataset.tip.startsWith(`sample ${FACTS.samples[state.sample].id}, ${functionName()}, step ${state.step}`));
seen.example = { tip: example.dataset.tip, shown: [state.sample, functionName(), state.step], function: byId("function").value };

byId("map").dispatchEvent(new MouseEvent("mousemove", { clientX: byId("map").getBoundingClientRect().left + 3, clientY: byId("map").getBoundingClientRect().top + 3, bubbles: true }));
seen.pixelTip = [byId("tip").hidden, text("tip")];
press("Escape");
const help = document.querySelector(".help");
help.dispatchEvent(new MouseEvent("mouseover", { bubbles: true }));
seen.help = [byId("tip").hidden, text("tip"), help.getAttribute("aria-description")];
help.dispatchEvent(new MouseEvent("mouseout", { bubbles: true }));
seen.helpLeft = byId("tip").hidden;

byId("tour-start").focus();
byId("tour-start").click();
seen.tour = [];
const stepBefore = state.step;
while (!byId("tour").hidden && seen.tour.length < 30) {
  seen.tour.push([document.querySelector(".toured").id, text("tour-title"), document.activeElement.id]);
  if (seen.tour.length % 2) press("ArrowRight"); else byId("tour-next").click();
}
seen.tourKeepsStep = state.step === stepBefore;
seen.tourEnds = { hidden: byId("tour").hidden, marked: document.querySelectorAll(".toured").length, focus: document.activeElement.id };
byId("tour-start").click(); byId("tour-next").click(); press("Escape");
seen.tourLeft = byId("tour").hidden;
byId("tour-start").click();
seen.tourAgain = text("tour-place");
byId("tour-close").click();

choose("function", 0);
byId("theme").click();
const dark = [document.documentElement.dataset.theme, getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color];
byId("theme").click();
seen.themes = [dark, [document.documentElement.dataset.theme, getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]];
seen.unreachable = [...document.querySelectorAll("button, select, input")].filter((control) => control.tabIndex < 0 && !control.closest("#strips, #thumbs")).length;
seen.unnamed = [...document.querySelectorAll("button, select, input")].filter((control) => !(control.getAttribute("aria-label") || control.labels?.length || (control.matches("button") && control.textContent.trim()))).map((control) => control.outerHTML);
return seen;
