// Opens the tour on a narrow screen, and measures what sticks out and what is too small to touch.
const ready = () => document.documentElement.dataset.ready === "yes";
for (let i = 0; i < 400 && !ready(); i++) await new Promise((done) => setTimeout(done, 10));
byId("tour-start").click();
const tour = byId("tour").getBoundingClientRect();
byId("tour-close").click();
const controls = [...document.querySelectorAll("main button, main select")];
const touched = controls.filter((control) => control.offsetWidth && !control.matches("#strips *, #thumbs *, .help"));
return {
  inner: innerWidth,
  content: document.documentElement.scrollWidth,
  tour: [tour.left, tour.right],
  small: touched.filter((control) => control.offsetHeight < 24).length,
};
