// A list by keys: j and k move, x chooses, c compares, Enter opens. Chosen jobs are counted on the button.
import { isWriting } from "/static/page.js";

const rows = () => [...document.querySelectorAll("#rows tbody tr")];
const current = () => document.querySelector("#rows tr.here");

function go(by) {
  const all = rows();
  if (!all.length) return;
  const at = all.indexOf(current());
  const next = all[at < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(Math.max(at + by, 0), all.length - 1)];
  current()?.classList.remove("here");
  next.classList.add("here");
  next.querySelector("[data-open]").focus({ preventScroll: true });
  next.scrollIntoView({ block: "nearest" });
}

function count() {
  const button = document.querySelector("[data-compare]");
  if (!button) return;
  const chosen = document.querySelectorAll("#rows input[name=job]:checked").length;
  button.disabled = chosen < 2 || chosen > 8;
  button.querySelector("[data-chosen]").textContent = chosen ? `${chosen} chosen` : "the chosen";
}

document.addEventListener("keydown", (event) => {
  if (isWriting(event) || document.querySelector("dialog[open]")) return;
  const box = current()?.querySelector("input[name=job]");
  if (event.key === "j") go(1);
  else if (event.key === "k") go(-1);
  else if (event.key === "x" && box) box.click();
  else if (event.key === "c") document.querySelector("[data-compare]:not(:disabled)")?.click();
  else if (event.key === "Enter" && current() && event.target === document.body) current().querySelector("[data-open]").click();
});
document.addEventListener("change", count);
document.addEventListener("saddlescope:shown", count);
count();
