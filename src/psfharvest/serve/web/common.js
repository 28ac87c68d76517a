// What every view uses: elements made without markup, requests, the state in the address, and numbers as words.

export const $ = (id) => document.getElementById(id);

/** Make an element; texts are texts, never markup. */
export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== undefined && value !== null && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined).map((c) => (c instanceof Node ? c : String(c))));
  return made;
}

export const fill = (id, ...children) => $(id).replaceChildren(...children);

/** An answer of the service that says what was wrong. */
export class Refused extends Error {}

async function ask(address, parameters, signal) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const one of Array.isArray(value) ? value : [value]) if (one !== "" && one !== undefined) query.append(name, one);
  }
  const response = await fetch(`${address}?${query}`, { signal, cache: "no-store" });
  if (!response.ok) {
    const words = await response.json().then((said) => said.error, () => response.statusText);
    throw new Refused(response.status === 401 ? "The token is missing: open the address that psfharvest serve printed." : words);
  }
  return response;
}

/** Return what an address gives as JSON; null where nothing is new. */
export async function json(address, parameters = {}, signal = undefined) {
  const response = await ask(address, parameters, signal);
  return response.status === 204 ? null : response.json();
}

export const bytes = async (address, parameters, signal) => (await ask(address, parameters, signal)).arrayBuffer();

/** Return a function that gives a new signal at each call, and aborts the one before. */
export function latest() {
  let before = null;
  return () => {
    before?.abort();
    before = new AbortController();
    return before.signal;
  };
}

export const isAbort = (error) => error?.name === "AbortError";

const DEFAULTS = {
  view: "progress", h: "0", where: [], sort: "", order: "asc", at: "0", star: "", pos: "", as: "pictures",
  stretch: "asinh", soft: "30", black: "5", scale: "", tile: "104", x: "psf_flux", y: "qfit", xlog: "1", ylog: "",
};

/** The state of the page, as its address has it. */
export function state() {
  const given = new URLSearchParams(location.hash.slice(1));
  const found = {};
  for (const [name, value] of Object.entries(DEFAULTS)) {
    found[name] = Array.isArray(value) ? given.getAll(name) : given.has(name) ? given.get(name) : value;
  }
  return found;
}

/** Return the address of another state of the page. */
export function link(changes) {
  const next = { ...state(), ...changes };
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(next)) {
    if (Array.isArray(value)) value.forEach((one) => query.append(name, one));
    else if (String(value) !== DEFAULTS[name]) query.append(name, value);
  }
  return `#${query}`;
}

/** Go to another state; a setting that is only seen differently replaces the entry in the history. */
export function go(changes, isSetting = false) {
  const target = link(changes);
  if (target === (location.hash || "#")) return;
  if (isSetting) {
    history.replaceState(null, "", target);
    window.dispatchEvent(new HashChangeEvent("hashchange"));
  } else location.hash = target;
}

/** Return what the service is asked for in this state. */
export const selection = (s = state()) => ({ harvest: s.h, where: s.where, sort: s.sort, order: s.sort ? s.order : "" });

export const whole = (n) => Math.round(n).toLocaleString("en");

/** Return a number of the catalogue as people read it, without losing what tells two apart. */
export function shown(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number" || Number.isInteger(value)) return String(value);
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-3 || size >= 1e7) ? value.toExponential(4) : String(Number(value.toPrecision(8)));
}

export function duration(seconds) {
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const at = units.findIndex(([, size]) => seconds >= size);
  if (at < 0) return "less than a second";
  const [name, size] = units[at];
  const rest = units[at + 1] && Math.floor((seconds % size) / units[at + 1][1]);
  return `${Math.floor(seconds / size)} ${name}${rest && seconds < 10 * size ? ` ${rest} ${units[at + 1][0]}` : ""}`;
}

export const amount = (size) => (size < 1e6 ? `${(size / 1e3).toFixed(1)} kB` : size < 1e9 ? `${(size / 1e6).toFixed(1)} MB` : `${(size / 1e9).toFixed(2)} GB`);

/** Draw with uPlot in the colours of the page, as wide as its place. */
export function chart(place, options, data) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--rule"), width: 1 }, ticks: { stroke: colour("--rule"), width: 1 }, font: "12px system-ui, sans-serif", labelFont: "12px system-ui, sans-serif" };
  place.replaceChildren();
  if (data[0].length < 2) {
    place.append(el("p", { class: "quiet" }, "Too few samples to draw."));
    return { destroy() {} };
  }
  const size = { width: Math.max(place.clientWidth, 120), height: Math.max(place.clientHeight - 4, 80) };
  const { axes = [{}, {}], ...rest } = options(colour);
  return new window.uPlot({ ...size, legend: { show: false }, padding: [8, 40, 0, 0], ...rest, axes: axes.map((one) => ({ ...axis, ...one })) }, data, place);
}
