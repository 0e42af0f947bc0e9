// Explore mode: zoom, pan and tooltips for every `svg.chart`. A picture is complete without it.
//
// Pointer: Ctrl + wheel zooms, so does the wheel alone once the picture has the focus; a drag pans what is zoomed.
// Keys, on a focused picture: arrows go from mark to mark (Shift + arrows pan), + and - zoom, 0 or Escape resets.

const MOST = 40;
const STEP = 1.25;
const MARKS = "[data-tip]";

const tip = document.createElement("div");
tip.className = "chart-tip";
tip.setAttribute("role", "status");
tip.hidden = true;
document.body.append(tip);

/** Titles and the labels of links become tips; a title goes, so that the browser does not show a second one. */
function adopt(chart) {
  for (const anchor of chart.querySelectorAll("a[aria-label]")) anchor.dataset.tip = anchor.getAttribute("aria-label");
  for (const title of chart.querySelectorAll(":scope > title")) title.remove();
  for (const title of chart.querySelectorAll("title")) {
    const mark = title.parentElement.closest("a") ?? title.parentElement;
    mark.dataset.tip = title.textContent;
    title.remove();
  }
}

function show(mark, at) {
  tip.textContent = mark.dataset.tip;
  tip.hidden = false;
  const room = 8;
  const { width, height } = tip.getBoundingClientRect();
  const x = Math.min(Math.max(at.x + 14, room), innerWidth - width - room);
  const above = at.y - height - 14;
  tip.style.left = `${x}px`;
  tip.style.top = `${above < room ? at.y + 18 : above}px`;
}

function hide() {
  tip.hidden = true;
}

function middleOf(mark) {
  const { left, top, width, height } = mark.getBoundingClientRect();
  return { x: left + width / 2, y: top + height / 2 };
}

function explore(chart) {
  adopt(chart);
  const whole = chart.viewBox.baseVal;
  const home = { x: whole.x, y: whole.y, width: whole.width, height: whole.height };
  let view = { ...home };
  let current = -1;

  function look(next) {
    const width = Math.min(Math.max(next.width, home.width / MOST), home.width);
    const height = (width / home.width) * home.height;
    // The view stays inside the picture.
    view = {
      x: Math.min(Math.max(next.x, home.x), home.x + home.width - width),
      y: Math.min(Math.max(next.y, home.y), home.y + home.height - height),
      width,
      height,
    };
    chart.setAttribute("viewBox", `${view.x} ${view.y} ${view.width} ${view.height}`);
    chart.classList.toggle("zoomed", width < home.width);
    hide();
  }

  /** Zoom about a point of the page, which stays where it is. */
  function zoom(factor, at) {
    const box = chart.getBoundingClientRect();
    const across = at ? (at.x - box.left) / box.width : 0.5;
    const down = at ? (at.y - box.top) / box.height : 0.5;
    const width = Math.min(Math.max(view.width / factor, home.width / MOST), home.width);
    const height = (width / home.width) * home.height;
    look({ x: view.x + across * (view.width - width), y: view.y + down * (view.height - height), width });
  }

  function pan(dx, dy) {
    look({ x: view.x + dx * view.width, y: view.y + dy * view.height, width: view.width });
  }

  function visit(direction) {
    const marks = [...chart.querySelectorAll(MARKS)];
    if (marks.length === 0) return;
    current = current < 0 ? (direction > 0 ? 0 : marks.length - 1) : (current + direction + marks.length) % marks.length;
    chart.querySelector(".visited")?.classList.remove("visited");
    marks[current].classList.add("visited");
    show(marks[current], middleOf(marks[current]));
  }

  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  function press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const move = moves[event.key];
    if (move && event.shiftKey) pan(move[0] / 5, move[1] / 5);
    else if (move) visit(move[0] + move[1]);
    else if (event.key === "+" || event.key === "=") zoom(STEP * STEP);
    else if (event.key === "-") zoom(1 / STEP / STEP);
    else if (event.key === "0" || event.key === "Escape") look(home);
    else if (event.key === "Enter" && event.target === chart && current >= 0) follow();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** Enter on a mark that is a link goes where it leads. */
  function follow() {
    const mark = chart.querySelectorAll(MARKS)[current];
    mark.dispatchEvent(new MouseEvent("click", { bubbles: true, cancelable: true }));
  }

  let held = null;
  let dragged = false;

  chart.addEventListener("pointerdown", (event) => {
    dragged = false;
    if (event.button !== 0 || view.width >= home.width) return;
    held = { x: event.clientX, y: event.clientY };
  });
  chart.addEventListener("pointermove", (event) => {
    const mark = event.target.closest(MARKS);
    if (held) {
      const box = chart.getBoundingClientRect();
      const dx = event.clientX - held.x;
      const dy = event.clientY - held.y;
      if (!dragged && Math.hypot(dx, dy) < 4) return;
      // Only now: a captured pointer would turn every click on a link into one on the picture.
      if (!dragged) chart.setPointerCapture(event.pointerId);
      dragged = true;
      pan(-dx / box.width, -dy / box.height);
      held = { x: event.clientX, y: event.clientY };
    } else if (mark) show(mark, { x: event.clientX, y: event.clientY });
    else hide();
  });
  for (const end of ["pointerup", "pointercancel"]) {
    chart.addEventListener(end, () => {
      held = null;
    });
  }
  // What ends a drag is no click on a link.
  chart.addEventListener(
    "click",
    (event) => {
      if (dragged) event.preventDefault();
    },
    true,
  );
  chart.addEventListener("dragstart", (event) => event.preventDefault());
  chart.addEventListener("pointerleave", hide);
  chart.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey && document.activeElement !== chart) return;
      event.preventDefault();
      zoom(event.deltaY < 0 ? STEP : 1 / STEP, { x: event.clientX, y: event.clientY });
    },
    { passive: false },
  );
  chart.addEventListener("dblclick", () => look(home));
  chart.addEventListener("keydown", press);
  chart.addEventListener("focusin", (event) => {
    const mark = event.target.closest(MARKS);
    if (mark) show(mark, middleOf(mark));
  });
  chart.addEventListener("focusout", () => {
    current = -1;
    chart.querySelector(".visited")?.classList.remove("visited");
    hide();
  });
  chart.setAttribute("tabindex", "0");
  chart.setAttribute("aria-keyshortcuts", "ArrowLeft ArrowRight + - 0");
  chart.classList.add("explored");
}

/** Also what a live page puts in later. */
export function exploreAll(root = document) {
  for (const chart of root.querySelectorAll("svg.chart:not(.explored)")) explore(chart);
}

exploreAll();
new MutationObserver((changes) => {
  if (changes.some((change) => change.addedNodes.length > 0)) exploreAll();
}).observe(document.body, { childList: true, subtree: true });
addEventListener("scroll", hide, { passive: true });
