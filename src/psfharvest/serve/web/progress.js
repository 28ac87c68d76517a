// How the harvest is going: figures, rate and losses over time, why not, and what happened.

import { $, amount, chart, duration, el, fill, json, link, whole } from "./common.js";

const KEPT = 3000;
let harvest = null;
let samples = { at_s: [], settled: [], missing: [], failed: [] };
let reasonsOf = "";
let plots = [];

export function headline(now) {
  const settled = now.total - now.pending;
  if (!now.expected) return "Nothing has been asked for yet.";
  if (now.is_running) {
    const left = now.left_s === null ? "" : `, about ${duration(now.left_s)} left`;
    return `${whole(settled)} of ${whole(now.expected)} settled; ${now.per_second < 10 ? now.per_second : whole(now.per_second)} per second${left}.`;
  }
  if (now.pending || !now.is_fully_asked) return `${whole(settled)} of ${whole(now.expected)} settled; no run is under way.`;
  return now.missing || now.failed ? `All settled: ${whole(now.done)} of ${whole(now.total)} are here.` : `All ${whole(now.total)} are here.`;
}

/** Show what /api/now gave. */
export async function show(now, h) {
  if (harvest !== h) {
    harvest = h;
    reasonsOf = "";
    const series = await json("api/series", { harvest: h });
    samples = { at_s: series.at_s, settled: series.at_s.map((_, i) => series.done[i] + series.missing[i] + series.failed[i]), missing: series.missing, failed: series.failed };
  } else take(now);
  $("headline").textContent = headline(now);
  $("asked").textContent = now.asked.join(" · ");
  $("trouble").textContent = now.trouble;
  $("trouble").hidden = !now.trouble;
  const parts = ["done", "missing", "failed", "pending"];
  const all = Math.max(now.expected, 1);
  $("bar").setAttribute("aria-label", parts.map((name) => `${whole(now[name])} ${name}`).join(", "));
  const bars = parts.slice(0, 3).map((name) => el("span", { class: name }));
  bars.forEach((bar, i) => (bar.style.flexGrow = now[parts[i]] / all));
  const rest = el("span");
  rest.style.flexGrow = Math.max(0, 1 - (now.total - now.pending) / all);
  fill("bar", ...bars, rest);
  const figures = [["total", whole(now.total)], ...parts.map((name) => [name, whole(now[name])]), ["stored", amount(now.bytes)], ["requests", whole(now.requests)], ["time spent", duration(now.elapsed_s)]];
  fill("figures", ...figures.map(([name, value]) => el("div", { class: name, "data-figure": name }, el("dt", {}, name), el("dd", {}, value))));
  draw();
  const seen = JSON.stringify([now.reasons, now.runs, now.is_running, now.stopped, now.last_note]);
  if (seen !== reasonsOf) {
    reasonsOf = seen;
    await details(h);
  }
}

/** Draw again, since the page has another width or other colours. */
export function draw() {
  plots.forEach((plot) => plot.destroy());
  const { at_s: t } = samples;
  const step = Math.max(1, Math.ceil(t.length / 300));
  const at = t.map((_, i) => i).filter((i) => i % step === 0 || i === t.length - 1);
  const rates = at.map((i, k) => (k ? (samples.settled[i] - samples.settled[at[k - 1]]) / Math.max(t[i] - t[at[k - 1]], 0.2) : null));
  const times = at.map((i) => t[i]);
  const upward = { y: { range: (_, low, high) => [0, Math.max(1, (high || 0) * 1.08)] } };
  const shared = { cursor: { show: false }, scales: upward, axes: [{ space: 78, values: moments }, {}], tzDate: (at) => window.uPlot.tzDate(new Date(at * 1e3), "Etc/UTC") };
  plots = [
    chart($("rate"), (colour) => ({ ...shared, series: [{}, { stroke: colour("--accent"), width: 1.6, fill: `${colour("--accent")}22` }] }), [times, rates]),
    chart($("losses"), (colour) => ({ ...shared, series: [{}, { stroke: colour("--missing"), width: 1.6 }, { stroke: colour("--failed"), width: 1.6, dash: [5, 4] }] }), [times, at.map((i) => samples.missing[i]), at.map((i) => samples.failed[i])]),
  ];
}

/** Return labels of a time axis, in UTC as all times of the page: the date at the first, and where a day begins. */
function moments(_, splits, axis, space, step) {
  const last = step >= 86400 ? 0 : step >= 60 ? 16 : step >= 1 ? 19 : 21;
  return splits.map((at, i) => {
    const [day, time] = [new Date(at * 1e3).toISOString().slice(0, 10), new Date(at * 1e3).toISOString().slice(11, last)];
    return !time ? day : i === 0 || at % 86400 === 0 ? `${time}\n${day}` : time;
  });
}

function take(now) {
  const at = Date.now() / 1000;
  const last = samples.at_s.at(-1) ?? 0;
  if (at - last < 0.9) return;
  const one = { at_s: at, settled: now.total - now.pending, missing: now.missing, failed: now.failed };
  for (const [name, values] of Object.entries(samples)) {
    values.push(one[name]);
    if (values.length > KEPT) values.splice(0, KEPT / 3);
  }
}

async function details(h) {
  const [account, happened] = await Promise.all([json("api/account", { harvest: h }), json("api/notes", { harvest: h })]);
  $("why").hidden = !account.why.length;
  fill("reasons", ...account.why.map((why) => el("li", {},
    el("a", { href: link({ view: "stars", where: [`reason=${why.reason}`], at: "0", star: "", as: "table" }) }, `${whole(why.n)} ${why.reason}`),
    `: ${why.remedy}`, why.example ? el("div", { class: "quiet" }, "for example ", el("code", {}, why.example)) : null)));
  fill("notes", ...happened.notes.map((note) => el("li", {}, el("time", { datetime: note.at }, note.at.replace("T", " ").replace("Z", " UTC")), note.words)));
}
