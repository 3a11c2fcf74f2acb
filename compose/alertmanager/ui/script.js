// Shows what Alertmanager holds: who is told about what, and what is held back and why. It changes nothing.
// Everything from outside is set as text, never as markup. The mails' button leads here: #/alerts?receiver=NAME.
"use strict";

const REFRESH_MS = 5000;
const byId = (id) => document.getElementById(id);
let asked = false;

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

async function get(path) {
  const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(REFRESH_MS) });
  if (!answer.ok) throw new Error(path + " answers " + answer.status);
  return answer.json();
}

function wantedReceiver() {
  return new URLSearchParams(location.hash.split("?")[1] || "").get("receiver");
}

function pairs(map) {
  const list = element("dl");
  for (const name of Object.keys(map).sort()) list.append(element("dt", name), element("dd", map[name]));
  return list;
}

function matcher(m) {
  const sign = m.isRegex ? (m.isEqual === false ? "!~" : "=~") : (m.isEqual === false ? "!=" : "=");
  return m.name + sign + '"' + m.value + '"';
}

function why(status) {
  if (status.silencedBy.length) return "silenced by " + status.silencedBy.join(", ");
  if (status.inhibitedBy.length) return "held back: a cause of it has been told";
  return "";
}

function article(alert) {
  const box = element("article", undefined, alert.status.state);
  const line = element("p");
  line.append(element("span", alert.status.state, "state"), " " + (alert.labels.alertname || "(no name)") +
    ", since " + alert.startsAt.replace(/\.\d+/, ""), why(alert.status) ? " (" + why(alert.status) + ")" : "");
  box.append(line);
  if (alert.annotations.summary) box.append(element("p", alert.annotations.summary));
  const { summary, ...rest } = alert.annotations;
  box.append(pairs(alert.labels), pairs(rest));
  return box;
}

async function refresh() {
  if (asked || document.hidden) return;
  asked = true;
  try {
    const [groups, silences] = await Promise.all([get("api/v2/alerts/groups"), get("api/v2/silences")]);
    const receiver = wantedReceiver();
    const shown = groups.filter((group) => !receiver || group.receiver.name === receiver);
    const alerts = shown.flatMap((group) => group.alerts);
    const active = alerts.filter((alert) => alert.status.state === "active").length;
    byId("sum").textContent = active + " active, " + (alerts.length - active) + " held back";
    document.title = active + " active: Alertmanager";
    byId("filter").replaceChildren();
    if (receiver) {
      const all = element("a", "show all");
      all.href = "#/alerts";
      byId("filter").append("Only receiver " + receiver + "; ", all, ".");
    }
    byId("alerts").replaceChildren(...shown.flatMap((group) => {
      const labels = Object.entries(group.labels).map(([name, value]) => name + "=" + value).join(" ");
      return [element("h2", "To " + group.receiver.name + ": " + labels), ...group.alerts.map(article)];
    }));
    const living = silences.filter((silence) => silence.status.state !== "expired");
    byId("silences").replaceChildren(...living.map((silence) => element("li",
      silence.matchers.map(matcher).join(", ") + " until " + silence.endsAt.replace(/\.\d+/, "") +
      ", by " + silence.createdBy + ": " + silence.comment + " (" + silence.id + ")")));
    if (!living.length) byId("silences").append(element("li", "none"));
    document.body.classList.remove("stale");
  } catch (error) {
    document.body.classList.add("stale");
    byId("sum").textContent = "no answer; what you see is old";
  } finally {
    asked = false;
  }
}

window.addEventListener("hashchange", refresh);
document.addEventListener("visibilitychange", refresh);
setInterval(refresh, REFRESH_MS);
refresh();
