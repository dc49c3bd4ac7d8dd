// Two pictures of one scene, in <div class="compare">, become one with a handle. Without this script both show.
for (const box of document.querySelectorAll(".compare")) {
  const pictures = box.querySelectorAll("img");
  if (pictures.length !== 2) continue;
  const frame = document.createElement("div");
  frame.className = "compare-frame";
  frame.append(...pictures);
  const handle = document.createElement("input");
  handle.type = "range";
  handle.min = "0";
  handle.max = "100";
  handle.value = "50";
  handle.setAttribute("aria-label", "How much of the image shows before the prediction");
  const move = () => frame.style.setProperty("--share", `${handle.value}%`);
  handle.addEventListener("input", move);
  move();
  frame.append(handle);
  box.prepend(frame);
  for (const paragraph of box.querySelectorAll("p")) if (!paragraph.textContent.trim()) paragraph.remove();
  box.classList.add("ready");
}
