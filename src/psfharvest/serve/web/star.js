// One star: its pixels, its radial profile, its row and its header.

import { $, bytes, chart, el, fill, go, isAbort, json, latest, link, selection, shown, state, whole } from "./common.js";
import { draw as drawTile, range, table, tiles } from "./stretch.js";

const next = latest();
let shownFor = "";
let tile = null;
let facts = null;
let around = { before: null, after: null };
let zoom = 1;
let cursor = null;
let plot = null;

/** Show the star of this state. */
export async function show(s) {
  const wanted = JSON.stringify([s.h, s.star, s.pos, selection(s)]);
  if (wanted !== shownFor) {
    const signal = next();
    try {
      const at = Number(s.pos || 0);
      const first = Math.max(0, at - 1);
      const [about, body, page] = await Promise.all([
        json(`api/cutout/${encodeURIComponent(s.star)}`, { harvest: s.h }, signal),
        bytes("api/pixels", { harvest: s.h, n: s.star }, signal),
        s.pos === "" ? null : json("api/rows", { ...selection(s), at: first, count: 3, columns: "id" }, signal),
      ]);
      if (signal.aborted) return;
      facts = about;
      [tile] = tiles(body);
      around = { before: at > 0 ? page?.rows[0]?.n : null, after: page?.rows[at - first + 1]?.n, at, total: page?.total };
      shownFor = wanted;
      cursor = null;
    } catch (error) {
      if (!isAbort(error)) unavailable(error.message);
      return;
    }
    describe(s);
  }
  draw(s);
}

export const forget = () => (shownFor = "");

function unavailable(words) {
  $("starname").textContent = `Star ${state().star}`;
  $("startrouble").textContent = words;
  $("startrouble").hidden = false;
}

function describe(s) {
  const { row } = facts;
  $("starname").textContent = `${row.rootname ?? "Cutout"} ${row.id ?? row.n}, ${row.filter ?? row.filter_1 ?? ""} ${row.suffix ?? ""}`;
  const words = facts.trouble || (row.state === "done" ? (tile?.nx ? "" : "It holds no picture of a size that is drawn here.") : `${row.state}${row.reason ? `: ${row.reason}` : ""}${row.detail ? ` (${row.detail})` : ""}`);
  $("startrouble").textContent = words;
  $("startrouble").hidden = !words;
  $("back").href = link({ star: "", pos: "" });
  $("place").textContent = around.total === undefined ? "" : `${whole(around.at + 1)} of ${whole(around.total)}`;
  for (const [id, n, step] of [["prevstar", around.before, -1], ["nextstar", around.after, 1]]) {
    if (n) {
      $(id).href = link({ star: String(n), pos: String(around.at + step) });
      $(id).removeAttribute("aria-disabled");
    } else {
      $(id).removeAttribute("href");
      $(id).setAttribute("aria-disabled", "true");
    }
  }
  $("save").hidden = !facts.header;
  $("save").href = `api/fits/${row.n}?harvest=${s.h}`;
  $("save").download = facts.file_name ?? "";
  fill("row", ...Object.entries(row).map(([name, value]) => el("div", { class: String(value).length > 40 ? "long" : null, "data-column": name }, el("dt", {}, name), el("dd", {}, shown(value)))));
  $("cards").textContent = (facts.header ?? []).join("\n");
  $("pixel").textContent = tile?.nx ? `${tile.nx} × ${tile.ny} pixels. Point at one, or use W A S D, to read it.` : "";
}

/** Draw picture and profile for the settings of this state. */
export function draw(s = state()) {
  const canvas = $("big");
  const has = Boolean(tile?.nx);
  canvas.parentElement.hidden = !has;
  $("profile").parentElement.hidden = !has;
  if (!has) return;
  const size = Math.max(tile.nx, tile.ny);
  zoom = Math.max(1, Math.floor(612 / size));
  canvas.width = canvas.height = size * zoom;
  canvas.setAttribute("aria-label", `Picture of ${facts.file_name}`);
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  drawTile(new Uint32Array(image.data.buffer), canvas.width, 0, 0, size * zoom, tile, range(tile, Number(s.black)), table(s.stretch, Number(s.soft)));
  context.putImageData(image, 0, 0);
  if (cursor) {
    context.strokeStyle = "#ffd166";
    context.lineWidth = 2;
    context.strokeRect(cursor.x * zoom, (tile.ny - 1 - cursor.y) * zoom, zoom, zoom);
  }
  profile();
}

function profile() {
  const [cx, cy] = facts.center ?? [(tile.nx - 1) / 2, (tile.ny - 1) / 2];
  const points = [];
  for (let y = 0; y < tile.ny; y++) {
    for (let x = 0; x < tile.nx; x++) {
      const value = tile.pixels[y * tile.nx + x];
      if (Number.isFinite(value)) points.push([Math.hypot(x - cx, y - cy), value]);
    }
  }
  points.sort((a, b) => a[0] - b[0]);
  const { sorted } = tile;
  const spread = sorted[Math.floor(0.84 * (sorted.length - 1))] - sorted[Math.floor(0.16 * (sorted.length - 1))];
  plot?.destroy();
  plot = chart($("profile"), (colour) => ({
    cursor: { drag: { x: false, y: false } },
    scales: { x: { time: false }, y: { distr: 4, asinh: spread || 1 } },
    axes: [{ label: "distance from the centre [pixels]", size: 34, labelSize: 20 }, { size: 62 }],
    series: [{}, { stroke: colour("--accent"), paths: () => null, points: { show: true, size: 3, fill: colour("--accent") } }],
  }), [points.map((p) => p[0]), points.map((p) => p[1])]);
}

function read(x, y) {
  if (!tile?.nx || x < 0 || y < 0 || x >= tile.nx || y >= tile.ny) return;
  cursor = { x, y };
  const value = tile.pixels[y * tile.nx + x];
  $("pixel").textContent = `x ${x}, y ${y}: ${Number.isNaN(value) ? "no number (NaN)" : shown(Number(value.toPrecision(8)))}`;
}

/** Connect pointer and keys. */
export function connect() {
  const canvas = $("big");
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    const size = Math.max(tile.nx, tile.ny);
    const at = (from, to, position) => Math.floor(((position - from) / (to - from)) * size);
    read(at(box.left, box.right, event.clientX), tile.ny - 1 - at(box.top, box.bottom, event.clientY));
  });
  canvas.addEventListener("keydown", (event) => {
    const step = { w: [0, 1], s: [0, -1], a: [-1, 0], d: [1, 0] }[event.key.toLowerCase()];
    if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
    const from = cursor ?? { x: tile.nx >> 1, y: tile.ny >> 1 };
    read(Math.min(tile.nx - 1, Math.max(0, from.x + step[0])), Math.min(tile.ny - 1, Math.max(0, from.y + step[1])));
    draw();
  });
  document.addEventListener("keydown", (event) => {
    if (!state().star || event.ctrlKey || event.metaKey || event.altKey || ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName)) return;
    if (event.target.scrollWidth > event.target.clientWidth && event.target.classList.contains("tablebox")) return;
    const to = { ArrowLeft: $("prevstar"), ArrowRight: $("nextstar"), Escape: $("back") }[event.key];
    if (!to?.href) return;
    event.preventDefault();
    go(Object.fromEntries([["star", ""], ["pos", ""], ...new URLSearchParams(new URL(to.href).hash.slice(1))].filter(([name]) => name === "star" || name === "pos")));
  });
}
