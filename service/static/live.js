// A page that follows what happens. On an event it asks for itself again and puts what is new in its place: cells of rows
// that stay, whole rows only where nobody would lose his place by it.
const place = document.querySelector("[data-live]");
const every = Number(place?.dataset.every ?? 0);
let source = null, timer = null, pending = null, isAsking = false, isStale = false;

function tell(text, act) {
  const told = document.querySelector("[data-told]");
  if (!told) return;
  told.hidden = !text;
  told.replaceChildren(text);
  if (act) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = text;
    button.addEventListener("click", act);
    told.replaceChildren(button);
  }
}

const isBusy = (body) => window.scrollY > 120 || body.querySelector("input:checked, tr.here") !== null;

function putRows(fresh) {
  const old = document.querySelector("#rows tbody"), now = fresh.querySelector("#rows tbody");
  if (!old || !now) {
    if (now || old) location.reload();
    return;
  }
  const byId = new Map([...old.rows].map((row) => [row.dataset.id, row]));
  const isSame = now.rows.length === old.rows.length && [...now.rows].every((row, at) => old.rows[at].dataset.id === row.dataset.id);
  for (const row of now.rows) {
    const known = byId.get(row.dataset.id);
    if (!known) continue;
    [...row.cells].forEach((cell, at) => {
      // Not where the reader's mark or focus is.
      if (at < known.cells.length && !cell.querySelector("input, [data-open]") && known.cells[at].innerHTML !== cell.innerHTML) {
        known.cells[at].innerHTML = cell.innerHTML;
      }
    });
  }
  if (isSame) return tell("");
  const put = () => {
    const chosen = new Set([...old.querySelectorAll("input:checked")].map((box) => box.value));
    old.replaceChildren(...now.rows);
    for (const box of old.querySelectorAll("input")) box.checked = chosen.has(box.value);
    tell("");
    document.dispatchEvent(new Event("saddlescope:shown"));
  };
  if (isBusy(old)) tell("Newer jobs: show them", () => { put(); window.scrollTo(0, 0); });
  else put();
}

function putPart(fresh, id) {
  const now = fresh.getElementById(id), old = document.getElementById(id);
  if (!now || !old) return;
  const open = [...old.querySelectorAll("details")].map((one) => one.open);
  old.replaceChildren(...now.childNodes);
  old.querySelectorAll("details").forEach((one, at) => { one.open = open[at] ?? false; });
  if (!now.dataset.live) {
    stop();
    delete old.dataset.live;
    document.title = fresh.title;
  }
  document.dispatchEvent(new Event("saddlescope:shown"));
}

async function ask() {
  pending = null;
  if (isAsking) { isStale = true; return; }
  isAsking = true;
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (answer.redirected) return location.reload();
    if (answer.ok) {
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (place.dataset.place === "rows") putRows(fresh);
      else putPart(fresh, place.dataset.place);
    }
  } catch (failure) {
    if (!(failure instanceof TypeError)) throw failure; // the network; the stream comes back and asks again
  } finally {
    isAsking = false;
  }
  if (isStale) { isStale = false; soon(); }
}

function soon() { pending ??= setTimeout(ask, 300); }

function start() {
  if (source || !place?.dataset.live) return;
  source = new EventSource(place.dataset.live);
  const types = ["queued", "started", "progress", "waiting", "requeued", "released", "cancel_requested", "succeeded", "failed", "cancelled"];
  for (const type of types) source.addEventListener(`job.${type}`, soon);
  if (every) timer = setInterval(soon, every);
}

function stop() {
  source?.close();
  source = null;
  clearInterval(timer);
}

// A tab that nobody sees holds no connection: browsers allow six to one host.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) stop();
  else if (place?.dataset.live) { start(); soon(); }
});
document.addEventListener("click", (event) => {
  if (!place || !event.target.closest("[data-refresh]") || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  ask();
});
addEventListener("pagehide", stop);
if (!document.hidden) start();
