// From raw float32 to grey: the range of a tile, the stretch, and the shade of what is no number.

export const BLANK = [113, 128, 150];
const WORD = (r, g, b) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
const BLANK_WORD = WORD(...BLANK);
const GREYS = Uint32Array.from({ length: 256 }, (_, g) => WORD(g, g, g));
const STEPS = 4096;

/** Take a body of /api/pixels apart: number, sides, pixels and the sorted values of each tile. */
export function tiles(body) {
  const view = new DataView(body);
  const found = [];
  for (let at = 0; at < body.byteLength; ) {
    const [n, ny, nx] = [view.getUint32(at, true), view.getUint16(at + 4, true), view.getUint16(at + 6, true)];
    const pixels = new Float32Array(body.slice(at + 8, at + 8 + 4 * ny * nx));
    found.push({ n, ny, nx, pixels, sorted: pixels.filter(Number.isFinite).sort() });
    at += 8 + 4 * ny * nx;
  }
  return found;
}

/** Return the range of a tile: its black level, a percentile, and its brightest value. */
export function range(tile, black) {
  const { sorted } = tile;
  if (!sorted.length) return [0, 1];
  const low = sorted[Math.floor(((sorted.length - 1) * black) / 100)];
  return [low, sorted[sorted.length - 1]];
}

/** Return one range for all tiles: the middle one of their black levels, and the brightest of all. */
export function commonRange(all, black) {
  const ranges = all.filter((tile) => tile.sorted.length).map((tile) => range(tile, black));
  if (!ranges.length) return [0, 1];
  const lows = ranges.map(([low]) => low).sort((a, b) => a - b);
  return [lows[lows.length >> 1], Math.max(...ranges.map(([, high]) => high))];
}

/** Return the grey of each share of the range, 0 to 255; `soft` is 0 (hard) to 100. */
export function table(stretch, soft) {
  const s = 10 ** (-4 + (3.7 * soft) / 100);
  const curve = {
    linear: (t) => t,
    sqrt: (t) => t ** (0.2 + (0.8 * soft) / 100),
    log: (t) => Math.log1p(t / s) / Math.log1p(1 / s),
    asinh: (t) => Math.asinh(t / s) / Math.asinh(1 / s),
  }[stretch];
  return Uint32Array.from({ length: STEPS + 1 }, (_, i) => GREYS[Math.round(255 * curve(i / STEPS))]);
}

/** Draw a tile into the words of an image, enlarged without smoothing, its first row at the bottom. */
export function draw(words, width, left, top, side, tile, [low, high], greys) {
  const { nx, ny, pixels } = tile;
  const scale = STEPS / (high - low || 1);
  const size = Math.max(nx, ny);
  const xs = Int32Array.from({ length: side }, (_, i) => Math.floor((i * size) / side - (size - nx) / 2));
  for (let j = 0; j < side; j++) {
    const y = ny - 1 - Math.floor((j * size) / side - (size - ny) / 2);
    if (y < 0 || y >= ny) continue;
    const row = y * nx;
    const at = (top + j) * width + left;
    for (let i = 0; i < side; i++) {
      const x = xs[i];
      if (x < 0 || x >= nx) continue;
      const value = pixels[row + x];
      const step = (value - low) * scale;
      words[at + i] = value - value !== 0 ? (value === Infinity ? GREYS[255] : value === -Infinity ? GREYS[0] : BLANK_WORD) : greys[step <= 0 ? 0 : step >= STEPS ? STEPS : Math.round(step)];
    }
  }
}
