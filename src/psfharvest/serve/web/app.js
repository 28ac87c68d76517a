// The page: which view is shown, for which state, and the question once a second whether something is new.

import { $, el, fill, go, json, link, state, whole } from "./common.js";
import * as asking from "./asking.js";
import * as plot from "./plot.js";
import * as progress from "./progress.js";
import * as sheet from "./sheet.js";
import * as star from "./star.js";

const EVERY_MS = 1000;
const AFTER_ERROR_MS = 2000;
let now = null;
let harvest = null;
let timer = 0;
let viewBefore = "";

function offline(words) {
  $("offline").textContent = words;
  $("offline").hidden = !words;
}

/** Ask once whether something is new, and come again while the page is seen. */
async function poll() {
  clearTimeout(timer);
  if (document.hidden) return;
  const s = state();
  let wait = EVERY_MS;
  try {
    const known = harvest === s.h && now ? now.version : "";
    const found = await json("api/now", { harvest: s.h, version: known });
    if (found && s.h === state().h) {
      const isOther = harvest !== s.h;
      const grew = now && found.total - found.pending !== now.total - now.pending;
      now = found;
      harvest = s.h;
      if (grew && s.view !== "progress" && !s.star && s.at === "0" && !s.where.length && !s.sort && found.total - found.pending <= 240) sheet.forget();
      if (isOther || s.view === "progress") await render();
      else brief();
    } else if (now && s.view === "progress" && now.is_running) await progress.show(now, s.h);
    offline("");
  } catch (error) {
    offline(error instanceof TypeError ? "The service does not answer; the page goes on asking." : error.message);
    wait = AFTER_ERROR_MS;
  }
  clearTimeout(timer);
  timer = setTimeout(poll, wait);
}

function brief() {
  $("brief").textContent = `${whole(now.done)} of ${whole(now.expected)}${now.is_running ? `, ${now.per_second} per second` : ""}`;
  document.title = `${Math.floor((100 * (now.total - now.pending)) / Math.max(1, now.expected))} % ${$("title").textContent}`;
}

/** Show the view of this state. */
async function render() {
  const s = state();
  if (!now || harvest !== s.h) return poll();
  const view = s.star ? "star" : s.view;
  for (const id of ["progress", "stars", "plot", "star"]) $(id).hidden = id !== view;
  $("ask").hidden = !["stars", "plot"].includes(view);
  for (const tab of document.querySelectorAll("header nav a")) {
    tab.href = link({ view: tab.dataset.view, star: "", pos: "" });
    if (tab.dataset.view === s.view) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  for (const name of ["stretch", "soft", "black", "tile", "as"]) for (const id of [name, `${name}1`]) if ($(id) && $(id) !== document.activeElement) $(id).value = s[name];
  $("scale").checked = Boolean(s.scale);
  brief();
  if (view === "progress") await progress.show(now, s.h);
  else if (view === "star") await star.show(s);
  else {
    await asking.show(s);
    await (view === "stars" ? sheet.show(s, now.total) : plot.show(s));
  }
  if (viewBefore && viewBefore !== view) $(view === "star" ? "starname" : "main").focus({ preventScroll: view !== "star" });
  viewBefore = view;
}

function redraw() {
  const s = state();
  if (s.star) star.draw(s);
  else if (s.view === "stars") sheet.draw(s);
  else if (s.view === "plot") plot.draw(s);
  else if (now) progress.draw();
}

async function begin() {
  asking.connect();
  star.connect();
  plot.connect();
  for (const name of ["stretch", "soft", "black", "tile", "as"]) {
    for (const id of [name, `${name}1`]) $(id)?.addEventListener("input", () => go({ [name]: $(id).value }, true));
  }
  $("scale").addEventListener("change", () => go({ scale: $("scale").checked ? "1" : "" }, true));
  $("skip").addEventListener("click", (event) => {
    event.preventDefault();
    $("main").focus();
  });
  $("harvest").addEventListener("change", () => go({ h: $("harvest").value, where: [], sort: "", at: "0", star: "", pos: "" }));
  addEventListener("hashchange", () => render().catch((error) => offline(error.message)));
  document.addEventListener("visibilitychange", poll);
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth !== width) requestAnimationFrame(redraw);
    width = innerWidth;
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  try {
    const account = await json("api/account", { harvest: state().h });
    $("title").textContent = account.name;
    fill("harvest", ...account.harvests.map((one) => el("option", { value: one.harvest }, one.name)));
    $("harvest").value = state().h;
    $("pick").hidden = account.harvests.length < 2;
    addEventListener("hashchange", () => {
      $("harvest").value = state().h;
      $("title").textContent = account.harvests[Number(state().h)]?.name ?? "psfharvest";
    });
  } catch (error) {
    offline(error.message);
  }
  await poll();
}

begin();
