// Two columns against each other; a box selects the stars within it.

import { $, bytes, chart, el, fill, go, isAbort, latest, selection, state, whole } from "./common.js";
import * as asking from "./asking.js";

const next = latest();
let shownFor = "";
let points = null;
let plot = null;
let axes = [];

/** Show the plot that this state asks for. */
export async function show(s) {
  axes = await asking.columnsOfHarvest(s.h);
  const numbers = axes.filter((column) => column.kind !== "str").map((column) => column.name);
  for (const id of ["x", "y"]) {
    fill(id, ...numbers.map((name) => el("option", { value: name }, name)));
    $(id).value = s[id];
  }
  $("xlog").checked = Boolean(s.xlog);
  $("ylog").checked = Boolean(s.ylog);
  const wanted = JSON.stringify([s.h, s.where, s.x, s.y]);
  if (wanted !== shownFor) {
    const signal = next();
    try {
      const body = await bytes("api/points", { harvest: s.h, where: s.where, x: s.x, y: s.y }, signal);
      if (signal.aborted) return;
      points = take(body);
      shownFor = wanted;
      $("found").classList.remove("bad");
      $("found").textContent = `${whole(points.total)} cutouts have both`;
    } catch (error) {
      if (!isAbort(error)) asking.refused(error);
      return;
    }
  }
  draw(s);
}

export const forget = () => (shownFor = "");

function take(body) {
  const [total, n] = new Uint32Array(body, 0, 2);
  const [x, y] = [new Float32Array(body, 8 + 4 * n, n), new Float32Array(body, 8 + 8 * n, n)];
  const order = Uint32Array.from({ length: n }, (_, i) => i).sort((a, b) => x[a] - x[b]);
  return { total, x: Array.from(order, (i) => x[i]), y: Array.from(order, (i) => y[i]) };
}

/** Draw for the settings of this state. */
export function draw(s = state()) {
  if (!points) return;
  const isShown = points.x.map((x, i) => (!s.xlog || x > 0) && (!s.ylog || points.y[i] > 0));
  const data = [points.x.filter((_, i) => isShown[i]), points.y.filter((_, i) => isShown[i])];
  $("points").textContent = data[0].length < points.total ? `${whole(data[0].length)} of ${whole(points.total)} points are drawn` : `${whole(points.total)} points`;
  plot?.destroy();
  plot = null;
  if (!data[0].length) return fill("scatter", el("p", { class: "quiet" }, "No point to draw."));
  plot = chart($("scatter"), (colour) => ({
    cursor: { drag: { x: true, y: true, setScale: false }, points: { show: false } },
    scales: { x: { time: false, distr: s.xlog ? 3 : 1 }, y: { distr: s.ylog ? 3 : 1 } },
    axes: [{ label: unit(s.x), size: 40, labelSize: 22 }, { label: unit(s.y), size: 66, labelSize: 22 }],
    series: [{}, { stroke: colour("--accent"), paths: () => null, points: { show: true, size: 3, fill: colour("--accent") } }],
    hooks: { setSelect: [typed] },
  }), data);
}

/** Return a column's name with its unit. */
function unit(name) {
  const found = axes.find((column) => column.name === name)?.unit;
  return found ? `${name} [${found}]` : name;
}

function typed(u) {
  const { left, top, width, height } = u.select;
  if (width < 3 || height < 3) return;
  const ends = { x0: u.posToVal(left, "x"), x1: u.posToVal(left + width, "x"), y0: u.posToVal(top + height, "y"), y1: u.posToVal(top, "y") };
  for (const [name, value] of Object.entries(ends)) $("box").elements[name].value = Number(value.toPrecision(6));
}

/** Connect axes and box with the state. */
export function connect() {
  for (const id of ["x", "y"]) $(id).addEventListener("change", () => go({ [id]: $(id).value }));
  for (const id of ["xlog", "ylog"]) $(id).addEventListener("change", () => go({ [id]: $(id).checked ? "1" : "" }, true));
  $("box").addEventListener("submit", (event) => {
    event.preventDefault();
    const s = state();
    const ends = $("box").elements;
    const where = s.where.filter((word) => !word.startsWith(`${s.x}=`) && !word.startsWith(`${s.y}=`));
    for (const [axis, column] of [["x", s.x], ["y", s.y]]) {
      const [low, high] = [ends[`${axis}0`].value.trim(), ends[`${axis}1`].value.trim()];
      if (low || high) where.push(`${column}=${low}..${high}`);
    }
    go({ view: "stars", where, at: "0", star: "" });
  });
}
