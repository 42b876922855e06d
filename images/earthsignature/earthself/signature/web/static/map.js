// A small map of tiles: drag, wheel, pinch, buttons and keys; a click says what is there. It needs nothing but this server.
"use strict";

const data = JSON.parse(document.getElementById("layers").textContent);
const view = document.getElementById("view");
const pane = document.getElementById("tiles");
const TILE = 256;
const shown = new Map();
let layer = data.layers[0];
let middle = { x: 0.5, y: 0.5 };
let zoom = 0;

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const project = (lon, lat) => {
  const sine = Math.sin((clamp(lat, -85.05, 85.05) * Math.PI) / 180);
  return { x: lon / 360 + 0.5, y: 0.5 - Math.log((1 + sine) / (1 - sine)) / (4 * Math.PI) };
};
const unproject = (x, y) => ({ lon: (x - 0.5) * 360, lat: (Math.atan(Math.sinh((0.5 - y) * 2 * Math.PI)) * 180) / Math.PI });
const pixels = () => TILE * 2 ** zoom;
const box = () => {
  const [west, south, east, north] = layer.bounds;
  return { low: project(west, north), high: project(east < west ? east + 360 : east, south) };
};

function fit() {
  const { low, high } = box();
  middle = { x: (low.x + high.x) / 2, y: (low.y + high.y) / 2 };
  const room = Math.min(view.clientWidth / (high.x - low.x), view.clientHeight / (high.y - low.y));
  zoom = clamp(Math.log2((0.92 * room) / TILE), 0, layer.maxzoom);
  draw();
}

function draw() {
  const level = clamp(Math.round(zoom), Math.min(layer.minzoom, layer.maxzoom), layer.maxzoom);
  const count = 2 ** level;
  const size = (TILE * 2 ** zoom) / count;
  const left = view.clientWidth / 2 - middle.x * pixels();
  const top = view.clientHeight / 2 - middle.y * pixels();
  const { low, high } = box();
  const first = { x: Math.max(Math.floor(-left / size), Math.floor(low.x * count)), y: Math.max(Math.floor(-top / size), Math.floor(low.y * count), 0) };
  const last = {
    x: Math.min(Math.floor((view.clientWidth - left) / size), Math.ceil(high.x * count) - 1),
    y: Math.min(Math.floor((view.clientHeight - top) / size), Math.ceil(high.y * count) - 1, count - 1),
  };
  const wanted = new Set();
  for (let y = first.y; y <= last.y; y += 1) {
    for (let x = first.x; x <= last.x; x += 1) {
      const key = `${layer.name}/${level}/${x}/${y}`;
      wanted.add(key);
      if (!shown.has(key)) {
        const image = new Image();
        image.alt = "";
        image.src = `${data.below}/${layer.name}/tiles/${level}/${((x % count) + count) % count}/${y}.png`;
        pane.append(image);
        shown.set(key, image);
      }
      const image = shown.get(key);
      // Edges are rounded, not sizes, so that no seams show between tiles.
      const edge = { left: Math.round(left + x * size), top: Math.round(top + y * size) };
      image.style.left = `${edge.left}px`;
      image.style.top = `${edge.top}px`;
      image.style.width = `${Math.round(left + (x + 1) * size) - edge.left}px`;
      image.style.height = `${Math.round(top + (y + 1) * size) - edge.top}px`;
    }
  }
  for (const [key, image] of shown) {
    if (!wanted.has(key)) {
      image.remove();
      shown.delete(key);
    }
  }
  scale();
}

function scale() {
  const { lat } = unproject(middle.x, middle.y);
  const metres = (40075016.686 * Math.cos((lat * Math.PI) / 180)) / pixels();
  const most = 110 * metres;
  const power = 10 ** Math.floor(Math.log10(most));
  const length = [5, 2, 1].map((n) => n * power).find((n) => n <= most);
  document.getElementById("bar").style.width = `${length / metres}px`;
  document.getElementById("length").textContent = length >= 1000 ? `${length / 1000} km` : `${length} m`;
}

function zoomAt(x, y, by) {
  const before = { x: middle.x + (x - view.clientWidth / 2) / pixels(), y: middle.y + (y - view.clientHeight / 2) / pixels() };
  zoom = clamp(zoom + by, 0, layer.maxzoom + 1);
  middle = { x: before.x - (x - view.clientWidth / 2) / pixels(), y: clamp(before.y - (y - view.clientHeight / 2) / pixels(), 0, 1) };
  draw();
}

function move(x, y) {
  middle = { x: middle.x - x / pixels(), y: clamp(middle.y - y / pixels(), 0, 1) };
  draw();
}

async function ask(x, y) {
  const at = unproject(middle.x + (x - view.clientWidth / 2) / pixels(), middle.y + (y - view.clientHeight / 2) / pixels());
  const lon = ((((at.lon + 180) % 360) + 360) % 360) - 180;
  const place = `${at.lat.toFixed(4)}, ${lon.toFixed(4)}`;
  const answer = await fetch(`${data.below}/${layer.name}/point.json?lon=${lon}&lat=${at.lat}`);
  const found = answer.ok ? await answer.json() : null;
  document.getElementById("readout").textContent = found && found.label !== null ? `${found.label} · ${place}` : place;
}

function choose(name) {
  layer = data.layers.find((one) => one.name === name);
  const key = document.getElementById("legend");
  key.replaceChildren(
    ...layer.legend.map((entry) => {
      const row = document.createElement("div");
      const swatch = document.createElement("i");
      swatch.style.background = entry.color ?? "none";
      row.className = "key";
      row.append(swatch, entry.label);
      return row;
    }),
  );
  draw();
}

const pointers = new Map();
let travelled = 0;
view.addEventListener("pointerdown", (event) => {
  if (event.target.closest("button")) return;
  view.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
  if (pointers.size === 1) travelled = 0;
});
view.addEventListener("pointermove", (event) => {
  const before = pointers.get(event.pointerId);
  if (!before) return;
  const now = { x: event.offsetX, y: event.offsetY };
  const other = [...pointers].find(([id]) => id !== event.pointerId);
  if (other) {
    const apart = (a) => Math.hypot(a.x - other[1].x, a.y - other[1].y);
    zoomAt((now.x + other[1].x) / 2, (now.y + other[1].y) / 2, Math.log2(Math.max(apart(now), 1) / Math.max(apart(before), 1)));
    travelled = Infinity;
  } else {
    move(now.x - before.x, now.y - before.y);
    travelled += Math.hypot(now.x - before.x, now.y - before.y);
  }
  pointers.set(event.pointerId, now);
});
view.addEventListener("pointerup", (event) => {
  if (pointers.delete(event.pointerId) && travelled < 5) ask(event.offsetX, event.offsetY);
});
view.addEventListener("pointercancel", (event) => pointers.delete(event.pointerId));
view.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoomAt(event.offsetX, event.offsetY, clamp(-event.deltaY / 240, -1, 1));
}, { passive: false });
view.addEventListener("keydown", (event) => {
  const steps = { ArrowLeft: [80, 0], ArrowRight: [-80, 0], ArrowUp: [0, 80], ArrowDown: [0, -80] };
  if (steps[event.key]) move(...steps[event.key]);
  else if (event.key === "+" || event.key === "-") zoomAt(view.clientWidth / 2, view.clientHeight / 2, event.key === "+" ? 1 : -1);
  else return;
  event.preventDefault();
});
document.getElementById("closer").addEventListener("click", () => zoomAt(view.clientWidth / 2, view.clientHeight / 2, 1));
document.getElementById("farther").addEventListener("click", () => zoomAt(view.clientWidth / 2, view.clientHeight / 2, -1));
document.getElementById("whole").addEventListener("click", fit);
for (const input of document.querySelectorAll("input[name=layer]")) input.addEventListener("change", () => choose(input.value));
new ResizeObserver(draw).observe(view);
choose(layer.name);
fit();
