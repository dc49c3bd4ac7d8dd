// The page: files come in, the network runs once for each, and what the panels say is drawn at once.

import { download, getGround, getModel, getSamples, getThumbnail, look, segment, takeSample, upload } from "/server.js";
import { Panels, keepColors, percent } from "/panels.js";
import { Queries } from "/queries.js";
import { Stage } from "/stage.js";

const $ = id => document.getElementById(id);
const stage = new Stage();
let model, panels, queries;
let view = null, medium = null, turn = 0; // what is shown; null while a file is read; each wish makes those before it void
let wanted = false, working = false, shown = null, playing = false, coming = null; // coming: the picture to a result
let before = null; // what is shown again where a file cannot be read

function report(error) {
  console.warn(error);
  $("problem-text").textContent = error.message || String(error);
  $("problem").hidden = false;
}

function busy(text) {
  $("busy").hidden = !text;
  $("busy-text").textContent = text ?? "";
  $("frame").classList.toggle("waiting", Boolean(text) && !shown);
}

// A file, or the number of a sample, takes the place of what is shown.
async function open(load, name, preview) {
  const own = ++turn;
  $("problem").hidden = true;
  stop();
  if (view) before = { view, medium, ground: stage.ground, result: shown };
  document.body.dataset.state = "waiting";
  view = shown = coming = null; // so that nothing of the picture before is drawn over this one
  $("empty").hidden = true;
  $("stage").hidden = false;
  $("player").hidden = true;
  if (preview) {
    stage.setResult(null);
    stage.setGround(preview);
  }
  queries.clear();
  $("picture-name").textContent = name;
  $("times").textContent = "";
  busy("Reading the file");
  try {
    const taken = await load();
    if (own !== turn) return;
    medium = taken;
    panels.hidden.clear();
    await show({ picture: taken.picture, frame: 0 }, own);
    document.body.dataset.state = "shown";
  } catch (error) {
    if (own !== turn) return;
    busy(null);
    report(error);
    document.body.dataset.state = before ? "shown" : "empty";
    if (!before) {
      $("stage").hidden = true;
      $("empty").hidden = false;
      return;
    }
    ({ view, medium, result: shown } = before);
    stage.setGround(before.ground);
    stage.setResult(shown);
    describe();
    reduce().catch(report); // the settings may have changed meanwhile
    queries.show(view, stage.ground).catch(report);
  }
}

async function show(next, own) {
  if (!playing) busy("Running the network");
  await look(next);
  const ground = await getGround(next);
  if (own !== turn) return;
  [view, coming] = [next, ground];
  await reduce();
  if (own !== turn) return;
  busy(null);
  describe();
  if (!playing) queries.show(view, ground).catch(report);
}

// Reduce again; while one reduction runs, only the last of further wishes counts.
async function reduce() {
  if (!view) return;
  wanted = true;
  if (working) return working;
  working = (async () => {
    try {
      while (wanted) {
        wanted = false;
        const asked = view;
        const result = await segment({ ...view, ...panels.asked() }).catch(error => { if (asked === view) throw error; });
        if (asked !== view) { wanted = Boolean(view); continue; }
        keepColors(result, shown, new Set(model.things));
        shown = result;
        if (coming) [coming] = [null, stage.setGround(coming)];
        stage.setResult(result);
        panels.legend(result);
        tell(result);
      }
    } finally {
      working = false;
    }
  })();
  return working;
}

function tell(result) {
  const tiles = result.tiles > 1 ? `, ${result.tiles} tiles` : "";
  const parts = [["network ", `${Math.round(result.network_ms)} ms`, ` once${tiles}`], ["reduction ", `${result.reduction_ms} ms`, ""]];
  $("times").replaceChildren(...parts.flatMap(([before, value, after], place) => {
    const bold = document.createElement("b");
    bold.textContent = value;
    return [place ? " · " : "", before, bold, after];
  }));
  Object.assign($("times").dataset, { runs: result.network_runs, reduction: result.reduction_ms });
}

function describe() {
  if (!shown) return;
  const [height, width] = shown.image;
  $("picture-name").textContent = `${medium.name}  ${width}×${height}`;
  $("player").hidden = !medium.frames;
  if (!medium.frames) return;
  const slider = $("frame-number");
  slider.max = medium.frames - 1;
  slider.value = view.frame;
  slider.style.setProperty("--at", `${100 * view.frame / Math.max(1, medium.frames - 1)}%`);
  $("frame-text").textContent = `frame ${view.frame + 1} of ${medium.cut ? "the first " : ""}${medium.frames}`;
}

function take(file) {
  if (!file) return;
  if (file.size > model.upload_mb * 1e6) {
    report(new Error(`${file.name} has ${(file.size / 1e6).toFixed(0)} MB; at most ${model.upload_mb} MB are taken (max_upload_mb=).`));
    return;
  }
  if (!file.size) return report(new Error(`${file.name} is empty.`));
  const own = turn + 1;
  if (file.type.startsWith("image/") && file.size < 3e7) { // shown while the network works, where the browser can
    createImageBitmap(file, { resizeWidth: 800, resizeQuality: "low" })
      .then(bitmap => { if (own === turn && !view) { stage.setResult(null); stage.setGround(bitmap); } })
      .catch(() => {});
  }
  open(() => upload(file), file.name);
}

// Video: one frame after the other, each as soon as the one before is drawn.
async function play() {
  if (!view) return;
  playing = true;
  $("play").textContent = "Pause";
  queries.clear();
  const own = ++turn;
  try {
    let frame = view.frame + 1 >= medium.frames ? 0 : view.frame + 1;
    for (; playing && own === turn && frame < medium.frames; frame++) await show({ ...view, frame }, own);
  } catch (error) {
    report(error);
  }
  if (own === turn) {
    stop();
    if (view) queries.show(view, stage.ground).catch(report);
  }
}

function stop() {
  playing = false;
  $("play").textContent = "Play";
}

function changed(what, value) {
  if (what === "mark") {
    if (stage.marked === value) return;
    stage.marked = value;
    stage.repaint();
    return;
  }
  stage.opacity = panels.values.opacity;
  stage.outlines = panels.values.outlines;
  stage.hidden = panels.hidden;
  if (what === "opacity" || what === "outlines" || (what === "hidden" && panels.task !== "instance")) return stage.repaint();
  if (what !== "hidden") queries.leave();
  reduce().catch(report);
}

async function seek() {
  stop();
  if (!view) return;
  const own = ++turn, frame = Number($("frame-number").value);
  $("frame-text").textContent = `frame ${frame + 1} of ${medium.frames}`;
  try {
    await show({ ...view, frame }, own);
  } catch (error) {
    if (own !== turn) return;
    busy(null);
    report(error);
  }
}

async function offerSamples() {
  const { names } = await getSamples();
  if (!names.length) return;
  const strip = $("samples").querySelector(".strip");
  strip.replaceChildren(...names.map((name, number) => {
    const button = Object.assign(document.createElement("button"), { type: "button", title: name });
    const image = document.createElement("img");
    const caption = Object.assign(document.createElement("span"), { textContent: name });
    image.alt = "";
    button.append(image, caption);
    getThumbnail(number).then(blob => {
      if (blob.size) { image.src = URL.createObjectURL(blob); return; }
      image.replaceWith(Object.assign(document.createElement("div"), { className: "film", textContent: "▶ video" }));
    }).catch(() => button.remove());
    button.onclick = () => open(() => takeSample(number), name);
    return button;
  }));
  $("samples").hidden = false;
}

function listen() {
  const input = $("file");
  for (const id of ["choose", "empty"]) $(id).onclick = () => input.click();
  input.onchange = () => { take(input.files[0]); input.value = ""; };
  $("problem-close").onclick = () => { $("problem").hidden = true; };
  document.addEventListener("paste", event => take([...event.clipboardData.files][0]));
  let inside = 0;
  const over = on => { $("curtain").hidden = !on; document.body.classList.toggle("over", on); };
  document.addEventListener("dragenter", event => { event.preventDefault(); over(++inside > 0); });
  document.addEventListener("dragleave", () => over(--inside > 0));
  document.addEventListener("dragover", event => event.preventDefault());
  document.addEventListener("drop", event => { event.preventDefault(); inside = 0; over(false); take(event.dataTransfer.files[0]); });
  const bare = on => { stage.bare = on; stage.draw(); };
  $("original").onpointerdown = () => bare(true);
  for (const name of ["pointerup", "pointerleave", "blur"]) $("original").addEventListener(name, () => bare(false));
  $("original").onkeydown = event => { if (event.key === " " || event.key === "Enter") bare(true); }; // false would stop Tab
  $("original").onkeyup = () => bare(false);
  $("play").onclick = () => playing ? stop() : play();
  $("frame-number").onchange = seek;
  $("frame-number").oninput = event => event.target.style.setProperty("--at", `${100 * event.target.value / Math.max(1, event.target.max)}%`);
  for (const button of $("downloads").querySelectorAll("[data-kind]")) button.onclick = async () => {
    if (!view) return report(new Error($("busy").hidden ? "Open a picture first." : "Wait until the picture is shown."));
    const own = turn;
    button.disabled = true;
    busy("Writing the file");
    try {
      await download({ ...view, ...panels.asked(), kind: button.dataset.kind });
    } catch (error) {
      report(error);
    }
    if (own === turn) busy(null);
    button.disabled = false;
  };
}

function describeModel() {
  document.title = `${model.name} · maskformer-ext demo`;
  $("model-name").textContent = model.name;
  const classes = model.classes.length === 1 ? "1 class" : `${model.classes.length} classes`;
  const kind = model.architecture === "maskformer" ? "MaskFormer" : "per-pixel baseline";
  $("model-facts").textContent = [kind, model.backbone, classes, model.device].filter(Boolean).join(" · ");
  $("bounds").textContent = `Up to ${model.upload_mb} MB. Of a video the first ${model.frames} frames are looked at. Nothing leaves this machine.`;
  stage.classes = model.classes;
  stage.describe = ({ score, share }, { image, size }) => {
    const pixels = Math.max(1, Math.round(share * image[0] * image[1]));
    const about = size[0] === image[0] && size[1] === image[1] ? "" : "≈ ";
    return `${score === null ? "" : `score ${score.toFixed(2)} · `}${percent(share)} · ${about}${pixels.toLocaleString("en")} px`;
  };
}

try {
  model = await getModel();
  describeModel();
  panels = new Panels(model, changed);
  queries = new Queries(model, stage, report);
  listen();
  document.body.dataset.ready = "true";
  await offerSamples();
} catch (error) {
  report(error);
}
