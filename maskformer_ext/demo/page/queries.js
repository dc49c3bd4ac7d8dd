// The strip of queries: the mask of each over the picture, the most confident first; a click shows one large.

import { getQueries, getQuery } from "/server.js";
import { heat } from "/stage.js";

const section = document.getElementById("queries");
const grid = section.querySelector(".grid");
const back = document.getElementById("query-back");
const more = document.getElementById("queries-more");
const facts = document.getElementById("query-facts");
const panel = document.getElementById("query");
const FEW = 12;

export class Queries {
  #view = null; #asked = 0;

  constructor(model, stage, report) {
    [this.model, this.stage, this.report] = [model, stage, report];
    back.onclick = () => this.leave();
    document.addEventListener("keydown", event => event.key === "Escape" && this.leave());
  }

  clear() {
    section.hidden = true;
    this.#asked++;
    this.leave();
  }

  async show(view, ground) {
    if (!this.model.queries) return;
    this.#view = view;
    const asked = ++this.#asked;
    const found = await getQueries(view);
    if (asked !== this.#asked) return;
    this.leave();
    const [height, width] = found.size;
    const items = found.queries.map((query, place) => this.#item(query, ground, {
      size: found.size, mask: found.masks.subarray(place * height * width, (place + 1) * height * width) }));
    const cut = () => items.forEach((item, place) => { item.hidden = place >= FEW && !more.hidden; });
    more.hidden = items.length <= FEW;
    more.textContent = `show ${items.length} of ${found.total}`;
    more.onclick = () => { more.hidden = true; cut(); };
    cut();
    grid.replaceChildren(...items);
    const tiles = found.tiles > 1 ? ` in ${found.tiles} tiles` : "";
    document.getElementById("queries-note").textContent = `${found.used} of ${found.total}${tiles} see something. Click one to see its mask.`;
    section.hidden = false;
  }

  leave() {
    panel.hidden = true;
    for (const button of grid.children) button.setAttribute("aria-pressed", false);
    if (this.stage.query) this.stage.setQuery(null);
  }

  #item(query, ground, mask) {
    const [height, width] = mask.size;
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    const context = canvas.getContext("2d");
    context.drawImage(ground, 0, 0, width, height);
    context.fillStyle = "rgb(14 16 22 / .55)";
    context.fillRect(0, 0, width, height);
    context.drawImage(heat(mask, this.model.colors[query.label]), 0, 0, width, height);
    const button = Object.assign(document.createElement("button"), { type: "button" });
    const caption = document.createElement("span"), name = document.createElement("b");
    name.textContent = this.model.classes[query.label];
    caption.append(name, ` ${query.probability.toFixed(2)}`);
    button.title = `query ${query.query}: ${this.model.classes[query.label]} ${query.probability.toFixed(3)}`
      + (query.used ? "" : ", but more likely no object");
    button.classList.toggle("unused", !query.used);
    button.setAttribute("aria-pressed", false);
    button.append(canvas, caption);
    button.onclick = () => this.#open(query, button);
    return button;
  }

  async #open(query, button) {
    if (button.getAttribute("aria-pressed") === "true") return this.leave();
    try {
      const shown = await getQuery(this.#view, query.place);
      for (const other of grid.children) other.setAttribute("aria-pressed", other === button);
      this.stage.setQuery(shown, this.model.colors[query.label]);
      facts.replaceChildren(...shown.classes.map(({ label, probability }) => {
        const row = document.createElement("div"), [name, bar, value] = ["b", "u", "em"].map(kind => document.createElement(kind));
        name.textContent = label < 0 ? "no object" : this.model.classes[label];
        bar.style.setProperty("--share", `${100 * probability}%`);
        value.textContent = probability.toFixed(3);
        row.append(name, bar, value);
        return row;
      }));
      document.getElementById("query-name").textContent = `Query ${shown.query}`;
      panel.hidden = false;
      document.getElementById("stage").scrollIntoView({ block: "nearest", behavior: "smooth" });
    } catch (error) {
      this.report(error);
    }
  }
}
