// The panels at the side: task, settings and legend.

const element = (name, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
};

const SLIDERS = {
  object_mask_threshold: { name: "Least class probability", tasks: ["panoptic"], min: 0, max: 1, step: 0.01,
    title: "object_mask_threshold: queries below it make no segment" },
  overlap_threshold: { name: "Least share kept", tasks: ["panoptic"], min: 0, max: 1, step: 0.01,
    title: "overlap_threshold: a segment must keep this share of its own mask" },
  min_score: { name: "Least score", tasks: ["instance"], min: 0, max: 1, step: 0.01,
    title: "min_score: instances below it are not shown" },
  mask_threshold: { name: "Mask threshold", tasks: ["instance"], min: 0.01, max: 0.99, step: 0.01,
    title: "mask_threshold: mask probability of a pixel that belongs to an instance" },
  top_k: { name: "Most instances", tasks: ["instance"], min: 1, max: 300, step: 1,
    title: "top_k: how many classes of queries are taken, the most probable ones" },
  opacity: { name: "Opacity", tasks: ["semantic", "instance", "panoptic"], min: 0, max: 1, step: 0.01,
    title: "Of the colours" },
};
const CHOICES = {
  semantic: { name: "A pixel's class", words: { sum: "sum of queries", argmax: "best query" } },
  resize: { name: "Enlarged", words: { scores: "scores", logits: "mask logits" } },
};
const LONG_NAMES = { object_mask_threshold: 2, overlap_threshold: 2, min_score: 2, mask_threshold: 2, top_k: 0, opacity: 2 };

// Let one of several words be chosen: one stop of the Tab key, in which arrows choose.
function fillRadios(group, name, words, chosen, choose) {
  group.setAttribute("role", "radiogroup");
  group.setAttribute("aria-label", name);
  const buttons = words.map(([value, textContent]) => element("button", { type: "button", value, textContent }));
  const mark = value => buttons.forEach(button => {
    button.setAttribute("role", "radio");
    button.setAttribute("aria-checked", button.value === value);
    button.tabIndex = button.value === value ? 0 : -1;
  });
  for (const button of buttons) button.onclick = () => { mark(button.value); choose(button.value); };
  group.onkeydown = event => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const next = buttons.at((buttons.indexOf(document.activeElement) + step) % buttons.length);
    next.focus();
    next.click();
  };
  mark(chosen);
  group.replaceChildren(...buttons);
}

export class Panels {
  constructor(model, changed) {
    this.model = model;
    this.changed = changed;
    this.task = model.task;
    this.defaults = { ...model.settings, min_score: 0.5, opacity: 0.5, outlines: true };
    this.values = { ...this.defaults };
    this.hidden = new Set();
    document.getElementById("reset").onclick = () => { this.values = { ...this.defaults }; this.#settings(); changed("all"); };
    document.getElementById("show-all").onclick = () => { this.hidden.clear(); this.legend(this.last); changed("hidden"); };
    const list = document.getElementById("legend"); // it listens for its items, which are made anew all the time
    list.onpointerover = event => changed("mark", Number(event.target.closest("button")?.dataset.label ?? -1));
    list.onpointerleave = () => changed("mark", -1);
    this.#tasks();
    this.#settings();
  }

  // What the server must know to reduce and to save.
  asked() {
    return { task: this.task, values: this.values, min_score: this.task === "instance" ? this.values.min_score : 0,
      hidden: [...this.hidden], opacity: this.values.opacity };
  }

  #tasks() {
    document.getElementById("task-card").hidden = this.model.tasks.length < 2;
    fillRadios(document.getElementById("tasks"), "Task", this.model.tasks.map(task => [task, task]), this.task, task => {
      this.task = task;
      this.hidden.clear();
      this.#settings();
      this.changed("all");
    });
  }

  #settings() {
    const rows = Object.entries(SLIDERS).filter(([, { tasks }]) => tasks.includes(this.task)).map(([key, one]) => this.#slider(key, one));
    if (this.task === "semantic" && this.model.queries) rows.unshift(...Object.entries(CHOICES).map(([key, one]) => this.#choice(key, one)));
    const outlines = element("input", { type: "checkbox", checked: this.values.outlines, onchange: () => this.#set("outlines", outlines.checked) });
    rows.push(element("label", { className: "check" }, outlines, "Outlines"));
    document.getElementById("settings").replaceChildren(...rows);
    this.#offerReset();
  }

  #slider(key, { name, min, max, step, title }) {
    const output = element("output");
    const input = element("input", { type: "range", id: `set-${key}`, min, max, step, value: this.values[key] });
    const show = () => {
      output.textContent = Number(input.value).toFixed(LONG_NAMES[key]);
      input.style.setProperty("--at", `${100 * (input.value - min) / (max - min)}%`);
    };
    input.oninput = () => { show(); this.#set(key, Number(input.value)); };
    show();
    return element("div", { className: "setting", title }, element("label", { htmlFor: input.id, textContent: name }), output, input);
  }

  #choice(key, { name, words }) {
    const group = element("div", { className: "segmented" });
    fillRadios(group, name, Object.entries(words), this.values[key], word => this.#set(key, word));
    for (const button of group.children) button.title = `${key}=${button.value}`;
    return element("div", { className: "setting" }, element("span", { textContent: name }), group);
  }

  #set(key, value) {
    this.values[key] = value;
    this.#offerReset();
    this.changed(key);
  }

  #offerReset() {
    document.getElementById("reset").hidden = Object.keys(this.defaults).every(key => this.values[key] === this.defaults[key]);
  }

  // List the classes that were found, the largest first.
  legend(result) {
    this.last = result;
    const list = document.getElementById("legend");
    const found = new Map();
    for (const { label, share, color } of result?.segments ?? []) {
      const one = found.get(label) ?? { label, share: 0, count: 0, colors: [] };
      one.share += share;
      one.count += 1;
      if (one.colors.length < 3) one.colors.push(color);
      found.set(label, one);
    }
    const things = new Set(this.model.things), counted = this.task !== "semantic";
    const rows = [...found.values()].sort((a, b) => b.share - a.share).map(one => {
      const name = this.model.classes[one.label];
      const count = counted && things.has(one.label) ? `×${one.count} · ` : "";
      const swatch = element("i", {}, ...one.colors.map(color => {
        const part = element("span");
        part.style.background = `rgb(${color})`;
        return part;
      }));
      const bar = element("u");
      bar.style.setProperty("--share", `${Math.min(100, 100 * one.share)}%`);
      const button = element("button", { type: "button", title: name },
        swatch, element("b", { textContent: name }), element("em", { textContent: count + percent(one.share) }), bar);
      button.dataset.label = one.label;
      button.setAttribute("aria-pressed", !this.hidden.has(one.label));
      button.onclick = () => this.#toggle(one.label);
      return element("li", {}, button);
    });
    const focused = document.activeElement?.dataset?.label;
    list.replaceChildren(...rows);
    if (focused !== undefined) list.querySelector(`[data-label="${focused}"]`)?.focus();
    document.getElementById("show-all").hidden = ![...this.hidden].some(label => found.has(label));
    const nothing = document.getElementById("nothing");
    nothing.hidden = rows.length > 0;
    if (result) nothing.textContent = "Nothing is found. Lower the thresholds, or try another picture.";
    const segments = result?.segments.length ?? 0;
    const classes = rows.length === 1 ? "1 class" : `${rows.length} classes`;
    document.getElementById("found-count").textContent = !rows.length ? "" : counted ? `${segments} in ${classes}` : classes;
  }

  #toggle(label) {
    if (!this.hidden.delete(label)) this.hidden.add(label);
    this.legend(this.last);
    this.changed("hidden");
  }
}

export const percent = share => {
  const value = 100 * share;
  return `${value >= 10 ? value.toFixed(0) : value >= 0.1 ? value.toFixed(1) : value > 0 ? "<0.1" : "0"}%`;
};

// Let segments keep their colours while thresholds move and frames pass: each takes that of the one it mostly covers.
export function keepColors(result, before, things) {
  if (!before || before.task !== result.task || before.map.length !== result.map.length) return;
  const rows = before.segments.length + 1, columns = result.segments.length + 1;
  if (rows * columns > 4e6) return;
  const shared = new Uint32Array(rows * columns);
  for (let at = 0; at < result.map.length; at++) shared[before.map[at] * columns + result.map[at]]++;
  const pairs = [];
  for (let old = 1; old < rows; old++) for (let now = 1; now < columns; now++) {
    const pixels = shared[old * columns + now];
    const label = result.segments[now - 1].label;
    if (pixels && things.has(label) && before.segments[old - 1].label === label) pairs.push([pixels, old, now]);
  }
  pairs.sort((a, b) => b[0] - a[0]);
  const taken = new Set(), done = new Set(), used = new Set();
  const word = color => color.join();
  for (const [, old, now] of pairs) {
    if (taken.has(old) || done.has(now)) continue;
    taken.add(old); done.add(now);
    result.segments[now - 1].color = before.segments[old - 1].color;
    used.add(word(result.segments[now - 1].color));
  }
  const spare = [...before.segments, ...result.segments].map(({ color, label }) => [color, label]);
  result.segments.forEach((segment, place) => {
    if (done.has(place + 1) || !things.has(segment.label) || !used.has(word(segment.color))) return;
    const free = spare.find(([color, label]) => label === segment.label && !used.has(word(color)));
    if (free) segment.color = free[0];
    used.add(word(segment.color));
  });
}
