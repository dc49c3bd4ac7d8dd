// The picture with its masks on a canvas: colours, outlines, what lies under the pointer, or the mask of one query.

const canvas = document.getElementById("canvas");
const context = canvas.getContext("2d");
const tip = document.getElementById("tip");
const frame = document.getElementById("frame");

const layer = (width, height) => Object.assign(document.createElement("canvas"), { width, height });

export class Stage {
  ground = null; result = null; query = null;
  opacity = 0.5; outlines = true; hidden = new Set(); bare = false;
  under = 0; marked = -1; // 1 + the segment under the pointer; the class that the legend points at
  classes = []; describe = () => "";
  #colors = null; #tint = null; #pointer = null; #drawing = 0;

  constructor() {
    canvas.addEventListener("pointermove", event => this.#hover(event));
    canvas.addEventListener("pointerdown", event => this.#hover(event));
    canvas.addEventListener("pointerleave", event => event.pointerType !== "touch" && this.#leave());
    canvas.addEventListener("keydown", event => this.#step(event));
    canvas.addEventListener("blur", () => this.#leave());
    document.addEventListener("pointerdown", event => event.target !== canvas && this.#leave());
  }

  setGround(bitmap) {
    this.ground = bitmap;
    [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
    canvas.style.setProperty("--ratio", bitmap.width / bitmap.height);
    this.query = null;
    this.draw();
  }

  setResult(result) {
    this.result = result;
    this.#colors = this.#tint = null;
    this.#refreshTip();
    this.draw();
  }

  setQuery(query, color) {
    this.query = query && { ...query, picture: heat(query, color) };
    this.#refreshTip();
    this.draw();
  }

  // Draw once per shown frame, however often things change.
  draw() {
    if (!this.#drawing) this.#drawing = requestAnimationFrame(() => { this.#drawing = 0; this.#paint(); });
  }

  repaint() { this.#colors = null; this.draw(); }

  #paint() {
    if (!this.ground) return;
    const { width, height } = canvas;
    context.globalCompositeOperation = "source-over";
    context.globalAlpha = 1;
    context.drawImage(this.ground, 0, 0, width, height);
    if (this.bare) return;
    if (this.query) {
      context.fillStyle = "rgb(14 16 22 / .62)";
      context.fillRect(0, 0, width, height);
      context.drawImage(this.query.picture, 0, 0, width, height);
      return;
    }
    if (!this.result) return;
    if (!this.#colors) this.#layers();
    context.globalCompositeOperation = "saturation"; // muted, so that the colours are those of the legend
    context.globalAlpha = this.opacity > 0 ? 0.75 : 0;
    context.drawImage(this.#tint, 0, 0, width, height);
    context.globalCompositeOperation = "source-over";
    context.globalAlpha = 1;
    context.drawImage(this.#colors, 0, 0, width, height);
  }

  // Two layers at the size of the map: what is muted, and the colours with their outlines.
  #layers() {
    const { map, size: [height, width], segments } = this.result;
    const shown = new Uint8Array(segments.length + 1), fill = new Uint32Array(segments.length + 1);
    const edge = new Uint32Array(segments.length + 1);
    const focus = this.under || (this.marked >= 0 && !this.hidden.has(this.marked));
    segments.forEach(({ label, color: [r, g, b] }, place) => {
      if (this.hidden.has(label)) return;
      const lit = this.under ? this.under === place + 1 : this.marked === label;
      const strength = focus ? (lit ? Math.min(1, this.opacity + 0.25) : this.opacity * 0.7) : this.opacity;
      shown[place + 1] = 1;
      fill[place + 1] = pixel(r, g, b, 255 * strength);
      const bright = value => Math.round(0.55 * value + 0.45 * 255);
      edge[place + 1] = lit ? pixel(255, 255, 255, 245) : pixel(bright(r), bright(g), bright(b), focus ? 110 : 200);
    });
    const colors = new Uint32Array(map.length), tint = new Uint32Array(map.length);
    const grey = pixel(128, 128, 128, 255);
    const lines = this.outlines ? 1 : 0;
    for (let row = 0, at = 0; row < height; row++) {
      for (let column = 0; column < width; column++, at++) {
        const own = map[at];
        if (!shown[own]) continue;
        tint[at] = grey;
        const border = lines && ((column + 1 < width && map[at + 1] !== own) || (column > 0 && map[at - 1] !== own)
          || (row + 1 < height && map[at + width] !== own) || (row > 0 && map[at - width] !== own));
        colors[at] = border ? edge[own] : fill[own];
      }
    }
    [this.#colors, this.#tint] = [colors, tint].map(values => picture(values, width, height));
  }

  #hover(event) {
    const bounds = canvas.getBoundingClientRect();
    this.#pointer = [(event.clientX - bounds.left) / bounds.width, (event.clientY - bounds.top) / bounds.height];
    this.#refreshTip();
  }

  // Arrows move the place that is told about, with Shift by a tenth.
  #step(event) {
    const [across, down] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [];
    if (across === undefined) return;
    event.preventDefault();
    const far = event.shiftKey ? 0.1 : 0.02, within = value => Math.min(1, Math.max(0, value));
    const [x, y] = this.#pointer ?? [0.5, 0.5];
    this.#pointer = [within(x + far * across), within(y + far * down)];
    this.#refreshTip();
  }

  #leave() {
    this.#pointer = null;
    this.#refreshTip();
  }

  #refreshTip() {
    const found = this.#pointer && !this.bare ? this.#at(...this.#pointer) : null;
    const under = found && !this.query ? found.under : 0;
    if (under !== this.under) {
      this.under = under;
      this.repaint();
    }
    tip.hidden = !found;
    if (!found) return;
    const [color, name, facts] = tip.children;
    color.style.background = found.color;
    name.textContent = found.name;
    facts.textContent = found.facts;
    const bounds = canvas.getBoundingClientRect(), around = frame.getBoundingClientRect();
    const x = bounds.left - around.left + this.#pointer[0] * bounds.width;
    const y = bounds.top - around.top + this.#pointer[1] * bounds.height;
    const left = x + 18 + tip.offsetWidth > around.width ? x - 14 - tip.offsetWidth : x + 18;
    const top = y + 18 + tip.offsetHeight > around.height ? y - 12 - tip.offsetHeight : y + 18;
    tip.style.transform = `translate(${Math.max(4, left)}px, ${Math.max(4, top)}px)`;
  }

  #at(x, y) {
    const { map, mask, size } = this.query ?? this.result ?? {};
    if (!size) return null;
    const row = Math.min(size[0] - 1, Math.max(0, Math.floor(y * size[0])));
    const column = Math.min(size[1] - 1, Math.max(0, Math.floor(x * size[1])));
    if (this.query) {
      const name = `query ${this.query.query}`;
      return { color: "#fff", name, facts: `mask probability ${(mask[row * size[1] + column] / 255).toFixed(2)}`, under: 0 };
    }
    const place = map[row * size[1] + column];
    const segment = this.result.segments[place - 1];
    if (!segment) return { color: "transparent", name: "nothing", facts: "no mask passes the thresholds here", under: 0 };
    if (this.hidden.has(segment.label)) return { color: "transparent", name: this.classes[segment.label], facts: "hidden", under: 0 };
    const color = `rgb(${segment.color})`;
    return { color, name: this.classes[segment.label], facts: this.describe(segment, this.result), under: place };
  }
}

// The bytes of a colour, as ImageData keeps them on little-endian machines, which all that run browsers are.
const pixel = (red, green, blue, alpha) => ((Math.round(alpha) << 24) | (blue << 16) | (green << 8) | red) >>> 0;

export function picture(values, width, height) {
  const made = layer(width, height);
  const image = new ImageData(new Uint8ClampedArray(values.buffer), width, height);
  made.getContext("2d").putImageData(image, 0, 0);
  return made;
}

// A mask as a glow: transparent where it is improbable, outlined where it becomes more likely than not.
export function heat({ mask, size: [height, width] }, [red, green, blue]) {
  const lift = Math.max(1, 210 / Math.max(1, red, green, blue));
  const [r, g, b] = [red, green, blue].map(value => Math.min(255, Math.round((value || 40) * lift)));
  const values = new Uint32Array(mask.length);
  for (let row = 0, at = 0; row < height; row++) {
    for (let column = 0; column < width; column++, at++) {
      const inside = mask[at] > 127;
      const border = inside && ((column + 1 < width && mask[at + 1] < 128) || (column > 0 && mask[at - 1] < 128)
        || (row + 1 < height && mask[at + width] < 128) || (row > 0 && mask[at - width] < 128));
      values[at] = border ? pixel(255, 255, 255, 230) : pixel(r, g, b, mask[at] * 0.8);
    }
  }
  return picture(values, width, height);
}
