// The contact sheet: one canvas for all tiles, with a button over each, and the same rows as a table.

import { $, bytes, el, fill, go, isAbort, json, latest, link, selection, shown, state, whole } from "./common.js";
import * as asking from "./asking.js";
import { commonRange, draw as drawTile, range, table, tiles } from "./stretch.js";

const COUNT = 120;
const next = latest();
let shownFor = "";
let rows = [];
let pictures = new Map();
let answer = null;

/** Show the page of the selection that this state asks for. */
export async function show(s, total) {
  const isTable = s.as === "table";
  $("sheet").hidden = $("look").hidden = isTable;
  $("tablebox").hidden = !isTable;
  const wanted = JSON.stringify([selection(s), s.at, isTable]);
  if (wanted !== shownFor) {
    const signal = next();
    try {
      answer = await json("api/rows", { ...selection(s), at: s.at, count: COUNT, columns: isTable ? "" : await labelled(s) }, signal);
      const numbers = answer.rows.filter((row) => row.state === "done").map((row) => row.n);
      const found = numbers.length ? tiles(await bytes("api/pixels", { harvest: s.h, n: numbers.join(",") }, signal)) : [];
      if (signal.aborted) return;
      rows = answer.rows;
      pictures = new Map(found.map((tile) => [tile.n, tile]));
      shownFor = wanted;
    } catch (error) {
      if (isAbort(error)) return;
      asking.refused(error);
      shownFor = "";
      return;
    }
  }
  asking.found(answer, total);
  pager(s);
  if (isTable) fillTable(s);
  else draw(s);
}

/** Return the columns that the labels of pictures need: a page of a sort is read from as many blocks as it has rows. */
async function labelled(s) {
  const wanted = ["id", "filter", "filter_1", "state", "reason", s.sort];
  return (await asking.columnsOfHarvest(s.h)).map((column) => column.name).filter((name) => wanted.includes(name)).join(",");
}

/** Forget what is shown, so that the next look asks again. */
export const forget = () => (shownFor = "");

/** Draw all tiles for the settings of this state. */
export function draw(s = state()) {
  const place = $("sheet");
  const width = place.clientWidth;
  if (!width || place.hidden) return;
  const across = Math.max(1, Math.floor(width / Number(s.tile)));
  const side = Math.floor(width / across);
  const ratio = Math.min(window.devicePixelRatio || 1, 2);
  const pixels = Math.floor(side * ratio);
  const canvas = $("canvas");
  const down = Math.max(1, Math.ceil(rows.length / across));
  canvas.width = across * pixels;
  canvas.height = down * pixels;
  canvas.style.width = `${across * side}px`;
  canvas.style.height = `${down * side}px`;
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  const words = new Uint32Array(image.data.buffer);
  const greys = table(s.stretch, Number(s.soft));
  const common = s.scale ? commonRange([...pictures.values()], Number(s.black)) : null;
  rows.forEach((row, i) => {
    const tile = pictures.get(row.n);
    if (tile?.nx) drawTile(words, canvas.width, (i % across) * pixels + 1, Math.floor(i / across) * pixels + 1, pixels - 2, tile, common ?? range(tile, Number(s.black)), greys);
  });
  context.putImageData(image, 0, 0);
  buttons(s, across, side);
}

function buttons(s, across, side) {
  const old = [...$("tiles").children];
  const focused = old.indexOf(document.activeElement);
  const made = rows.map((row, i) => {
    const about = `${row.filter ?? row.filter_1 ?? ""} ${row.state === "done" ? "" : row.reason ?? row.state}`.trim();
    const value = s.sort && !["filter", "filter_1", "state", "reason"].includes(s.sort) ? ` ${shown(row[s.sort])}` : "";
    const label = `Star ${row.id ?? row.n}, ${about}${value ? `, ${s.sort}${value}` : ""}`;
    const button = el("button", { type: "button", "aria-label": label, tabindex: i === Math.max(0, focused) ? "0" : "-1", "data-n": row.n, onclick: () => open(i) }, el("span", { "aria-hidden": "true" }, about + value));
    Object.assign(button.style, { left: `${(i % across) * side}px`, top: `${Math.floor(i / across) * side}px`, width: `${side}px`, height: `${side}px` });
    return button;
  });
  fill("tiles", ...made);
  if (focused >= 0) made[Math.min(focused, made.length - 1)]?.focus();
  $("tiles").onkeydown = (event) => {
    const at = [...$("tiles").children].indexOf(document.activeElement);
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across, Home: -at, End: made.length - 1 - at }[event.key];
    if (at < 0 || step === undefined) return;
    event.preventDefault();
    const target = made[at + step];
    if (!target) return;
    made[at].tabIndex = -1;
    target.tabIndex = 0;
    target.focus();
  };
}

const open = (i) => go({ star: String(rows[i].n), pos: String(Number(state().at) + i) });

function pager(s) {
  const at = Number(s.at);
  const pages = Math.max(1, Math.ceil(answer.total / COUNT));
  $("page").textContent = `Page ${whole(Math.floor(at / COUNT) + 1)} of ${whole(pages)}`;
  for (const [id, to] of [["prevpage", at - COUNT], ["nextpage", at + COUNT]]) {
    const isThere = to >= 0 && to < answer.total;
    $(id).toggleAttribute("aria-disabled", !isThere);
    if (isThere) $(id).href = link({ at: String(to) });
    else $(id).removeAttribute("href");
    if (!isThere) $(id).setAttribute("aria-disabled", "true");
  }
}

async function fillTable(s) {
  const names = (await asking.columnsOfHarvest(s.h)).map((column) => column.name);
  const first = ["state", "reason", "filter", "filter_1", "psf_flux", "qfit", "size_px"].filter((name) => names.includes(name));
  const order = [...new Set([...(s.sort ? [s.sort] : []), ...first, ...names])];
  const turn = (name) => link({ sort: name, order: s.sort === name && s.order === "asc" ? "desc" : "asc", at: "0" });
  const arrow = (name) => (s.sort === name ? (s.order === "asc" ? " ↑" : " ↓") : "");
  const isSorted = (name) => (s.sort === name ? (s.order === "asc" ? "ascending" : "descending") : null);
  const fixed = new Set(["uri", "location", "sha256", "detail"]);
  const head = el("tr", {}, el("th", { scope: "col" }, "n"), ...order.map((name) => el("th", { scope: "col", "aria-sort": isSorted(name) }, fixed.has(name) ? name : el("a", { href: turn(name) }, name + arrow(name)))));
  const body = rows.map((row, i) => el("tr", {}, el("th", { scope: "row" }, el("a", { href: link({ star: String(row.n), pos: String(Number(s.at) + i) }) }, row.n)), ...order.map((name) => el("td", {}, shown(row[name])))));
  fill("table", el("thead", {}, head), el("tbody", {}, ...body));
}
