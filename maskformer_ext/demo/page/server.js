// What the page asks the server for. Every error is a sentence that can be shown.

const token = document.querySelector("meta[name=token]").content;
const LOST = "The server does not answer: it was ended, or the machine is out of memory. Its terminal says more.";

async function send(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: { "X-Token": token, ...options.headers } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error(LOST);
  }
  if (response.ok) return response;
  let sentence = `The server answered with status ${response.status}.`;
  try {
    sentence = (await response.json()).error;
  } catch { /* not from this server */ }
  throw new Error(sentence.replace(/^[a-z](?=[a-z]* )/, first => first.toUpperCase())); // names of files stay as they are
}

const post = (path, values) =>
  send(path, { method: "POST", body: JSON.stringify(values), headers: { "Content-Type": "application/json" } });

// The length of a JSON text, the text, then numbers.
async function unpack(response) {
  const buffer = await response.arrayBuffer();
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  return { header, buffer, offset: 4 + length };
}

export const getModel = async () => (await send("/api/model")).json();
export const getSamples = async () => (await send("/api/samples")).json();
export const getThumbnail = async number => (await send(`/api/samples/${number}`)).blob();
export const takeSample = async number => (await post("/api/sample", { number })).json();
export const look = async view => (await post("/api/look", view)).json();
export const getGround = async view => createImageBitmap(await (await post("/api/ground", view)).blob());

export async function upload(file) {
  const headers = { "X-Name": encodeURIComponent(file.name || "pasted.png"), "Content-Type": "application/octet-stream" };
  return (await send("/api/upload", { method: "POST", body: file, headers })).json();
}

export async function segment(asked) {
  const { header, buffer, offset } = await unpack(await post("/api/segment", asked));
  return { ...header, map: new Uint16Array(buffer, offset) };
}

export async function getQueries(view) {
  const { header, buffer, offset } = await unpack(await post("/api/queries", view));
  return { ...header, masks: new Uint8Array(buffer, offset) };
}

export async function getQuery(view, place) {
  const { header, buffer, offset } = await unpack(await post("/api/query", { ...view, place }));
  return { ...header, mask: new Uint8Array(buffer, offset) };
}

export async function download(asked) {
  const response = await post("/api/download", asked);
  const name = decodeURIComponent(/filename\*=UTF-8''(.+)$/.exec(response.headers.get("Content-Disposition"))[1]);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await response.blob());
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
