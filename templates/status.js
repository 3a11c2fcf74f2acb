// Keeps the page true: takes <main> from the server again when something happened, and every 5 s for the ages.
// Texts of events are set as text, never as markup.
"use strict";

const EVENTS_SHOWN = 30;
const REFRESH_MS = 5000;
const list = document.getElementById("events");
const link = document.getElementById("link");
const linkText = link.innerHTML;
let asked = false;

async function refresh() {
  if (asked || document.hidden) return;
  asked = true;
  try {
    const answer = await fetch("/", { cache: "no-store", signal: AbortSignal.timeout(REFRESH_MS) });
    if (!answer.ok) throw new Error(answer.status);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    document.querySelector("main").replaceWith(page.querySelector("main"));
    document.title = page.title;
    document.body.classList.remove("stale");
    if (link.dataset.lost) { delete link.dataset.lost; link.innerHTML = linkText; }
  } catch (why) {
    document.body.classList.add("stale");
    link.dataset.lost = "yes";
    link.textContent = "No answer from supervisor: what you see is old. Trying again.";
  } finally {
    asked = false;
  }
}

function show(event) {
  const item = document.createElement("li");
  const time = document.createElement("time");
  time.textContent = event.at;
  item.className = event.level;
  item.append(time, " " + event.words);
  list.prepend(item);
  while (list.children.length > EVENTS_SHOWN) list.lastChild.remove();
}

async function past() {
  try {
    const answer = await fetch("/api/v1/events?limit=" + EVENTS_SHOWN);
    const body = await answer.json();
    list.replaceChildren();
    (body.events || []).forEach(show);
    if (!answer.ok) list.textContent = body.error;
  } catch (why) {
    list.textContent = "The events could not be read.";
  }
}

const stream = new EventSource("/api/v1/events/stream");
stream.addEventListener("open", past);
stream.addEventListener("gap", past);
stream.addEventListener("transition", (message) => { show(JSON.parse(message.data)); refresh(); });
setInterval(refresh, REFRESH_MS);
document.addEventListener("visibilitychange", refresh);
