// The filter and the sort, in the words of the command line, with what can be asked for.

import { $, el, fill, go, json, link, selection, shown, state, whole } from "./common.js";

let columns = [];
let columnsOf = null;

/** Return the criteria that a line of words holds; what is in braces or quotes is one word. */
export function criteria(line) {
  return (line.match(/\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}|"[^"]*"|(?:[^\s"]|"[^"]*")+/g) ?? []).map((word) => (word.startsWith("{") ? word : word.replaceAll('"', "")));
}

const line = (where) => where.map((word) => (/\s/.test(word) && !word.startsWith("{") ? `"${word}"` : word)).join(" ");

/** Return the columns of a harvest: name, unit, meaning, kind. */
export async function columnsOfHarvest(h) {
  if (columnsOf !== h) {
    columns = (await json("api/facets", { harvest: h })).columns;
    columnsOf = h;
  }
  return columns;
}

/** Show the filter of this state. */
export async function show(s) {
  if (document.activeElement !== $("where")) $("where").value = line(s.where);
  const names = (await columnsOfHarvest(s.h)).filter((c) => !["uri", "location", "sha256", "detail"].includes(c.name)).map((c) => c.name);
  fill("sort", el("option", { value: "" }, "order of asking"), ...names.map((name) => el("option", { value: name }, name)));
  $("sort").value = s.sort;
  $("order").value = s.order;
  fill("columnlist", ...columns.map((c) => el("button", { type: "button", title: c.meaning + (c.unit ? ` (${c.unit})` : ""), onclick: () => facet(c) }, c.name)));
  for (const format of ["csv", "jsonl", "txt"]) {
    const query = new URLSearchParams({ harvest: s.h, format, ...(s.sort ? { sort: s.sort, order: s.order } : {}) });
    s.where.forEach((word) => query.append("where", word));
    $(format).href = `api/export?${query}`;
  }
}

/** Say how much was found, and how the same is asked elsewhere. */
export function found(answer, of) {
  $("found").classList.remove("bad");
  $("found").textContent = `${whole(answer.total)} of ${whole(of)} cutouts, ${answer.ms} ms`;
  $("python").textContent = `from psfharvest import Harvest; stars = ${answer.python}`;
  $("shell").textContent = answer.shell;
}

export function refused(error) {
  $("found").classList.add("bad");
  $("found").textContent = error.message;
}

async function facet(column) {
  const s = state();
  const title = el("h3", {}, column.name, column.unit ? ` (${column.unit})` : "", column.meaning ? `: ${column.meaning}` : "");
  fill("facet", title, el("p", { class: "quiet" }, "Counting…"));
  try {
    const facts = await json("api/facets", { ...selection(s), sort: "", order: "", column: column.name });
    const lines = [title];
    if (facts.min !== undefined) lines.push(el("p", {}, `${shown(facts.min)} to ${shown(facts.max)}, half of them below ${shown(facts.median)}`));
    if (facts.without) lines.push(el("p", { class: "quiet" }, `${whole(facts.without)} have no value`));
    if (facts.values) lines.push(el("div", { class: "chips" }, ...facts.values.map(([value, n]) => el("button", { type: "button", onclick: () => add(column.name, value) }, `${shown(value)} · ${whole(n)}`))));
    if (facts.bins) {
      const most = Math.max(...facts.bins.counts, 1);
      const bars = facts.bins.counts.map((n, i) => {
        const bar = el("i", { title: `${shown(facts.bins.edges[i])} to ${shown(facts.bins.edges[i + 1])}: ${whole(n)}` });
        bar.style.height = `${(100 * n) / most}%`;
        return bar;
      });
      lines.push(el("div", { class: "bars", role: "img", "aria-label": `Histogram from ${shown(facts.min)} to ${shown(facts.max)}` }, ...bars));
    }
    fill("facet", ...lines);
  } catch (error) {
    fill("facet", title, el("p", { class: "quiet" }, error.message));
  }
}

function add(name, value) {
  const text = String(value);
  const word = /[,{}]|\.\./.test(text) ? JSON.stringify({ paramName: name, values: [text] }) : `${name}=${text}`;
  go({ where: [...state().where.filter((one) => !one.startsWith(`${name}=`)), word], at: "0", star: "" });
}

/** Connect the form with the state. */
export function connect() {
  $("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    $("where").blur();
    go({ where: criteria($("where").value), sort: $("sort").value, order: $("order").value, at: "0", star: "" });
  });
  for (const id of ["sort", "order"]) $(id).addEventListener("change", () => go({ sort: $("sort").value, order: $("order").value, at: "0", star: "" }));
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", async () => {
      const source = $(button.dataset.copy);
      const before = button.textContent;
      try {
        await navigator.clipboard.writeText(source.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(source);
        button.textContent = "Selected: press Ctrl+C";
      }
      setTimeout(() => (button.textContent = before), 1500);
    });
  }
}

export { link };
