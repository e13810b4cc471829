// Tooltips of anything with data-tip, by pointer, keyboard focus and touch, and of canvases, by place.
function showTip(text, x, y) {
  const tip = byId("tip");
  tip.hidden = false;
  tip.textContent = text;
  const { width, height } = tip.getBoundingClientRect();
  const left = Math.min(Math.max(x - width / 2, 6), document.documentElement.clientWidth - width - 6);
  const top = y + 14 + height > window.innerHeight ? y - height - 12 : y + 14;
  tip.style.left = `${left + window.scrollX}px`;
  tip.style.top = `${top + window.scrollY}px`;
}

function hideTip() { byId("tip").hidden = true; }

function tipOf(target) {
  const box = target.getBoundingClientRect();
  showTip(target.dataset.tip, box.left + box.width / 2, box.bottom - 8);
}

function startTips() {
  for (const target of document.querySelectorAll("[data-tip]")) {
    target.setAttribute("aria-description", target.dataset.tip);
    if (target.classList.contains("help")) target.addEventListener("click", () => tipOf(target));
  }
  for (const [event, how] of [["mouseover", tipOf], ["focusin", tipOf]]) {
    document.addEventListener(event, ({ target }) => {
      const tipped = target.closest?.("[data-tip]");
      if (tipped && (event === "mouseover" || tipped.matches(":focus-visible"))) how(tipped);
    });
  }
  for (const event of ["mouseout", "focusout"]) document.addEventListener(event, ({ target }) => { if (target.closest?.("[data-tip]")) hideTip(); });
  document.addEventListener("keydown", ({ key }) => { if (key === "Escape") hideTip(); });
}

// words(x, y) in shares of the canvas; nothing is shown where it says nothing.
function tipOnCanvas(canvas, words) {
  canvas.addEventListener("mousemove", (event) => {
    const box = canvas.getBoundingClientRect();
    const text = words((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
    if (text) showTip(text, event.clientX, event.clientY + 6); else hideTip();
  });
  canvas.addEventListener("mouseleave", hideTip);
}
