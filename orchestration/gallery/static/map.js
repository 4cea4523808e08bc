// The map of a data set: points on a canvas, the nearest one under the pointer or the cursor keys.
const canvas = document.getElementById("map");
const told = document.getElementById("point");
const preview = document.getElementById("preview");
const PALETTE = ["#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#ee8866",
  "#44bb99", "#99ddff", "#ffaabb", "#777777", "#004488", "#bb5566", "#ddaa33", "#117733"];
const UNKNOWN = "#bbbbbb";
let points = null;
let places = [];
let chosen = -1;

function colours() {
  const values = points[canvas.dataset.colour];
  const counts = new Map();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  const names = [...counts.keys()].filter((name) => name !== null)
    .sort((a, b) => counts.get(b) - counts.get(a) || (a < b ? -1 : 1));
  const colour = new Map(names.map((name, i) => [name, PALETTE[i % PALETTE.length]]));
  const legend = document.getElementById("legend");
  legend.replaceChildren(...[...names, ...(counts.has(null) ? [null] : [])].map((name) => {
    const item = document.createElement("li");
    const dot = document.createElement("i");
    dot.style.setProperty("background", colour.get(name) ?? UNKNOWN);
    item.append(dot, `${name ?? "unknown"} (${counts.get(name)})`);
    return item;
  }));
  return values.map((value) => colour.get(value) ?? UNKNOWN);
}

function layOut() {
  const ratio = devicePixelRatio || 1;
  canvas.width = canvas.clientWidth * ratio;
  canvas.height = canvas.clientHeight * ratio;
  const pad = 14 * ratio;
  const range = (values) => {
    let low = Infinity, high = -Infinity;
    for (const v of values) { low = Math.min(low, v); high = Math.max(high, v); }
    return [low, high - low || 1];
  };
  const [x0, width] = range(points.x), [y0, height] = range(points.y);
  places = points.x.map((x, i) => [
    pad + (x - x0) / width * (canvas.width - 2 * pad),
    canvas.height - pad - (points.y[i] - y0) / height * (canvas.height - 2 * pad),
  ]);
}

function draw(fills) {
  const context = canvas.getContext("2d");
  const ratio = devicePixelRatio || 1;
  const radius = (places.length > 3000 ? 2 : 4) * ratio;
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.globalAlpha = 0.8;
  places.forEach(([x, y], i) => {
    context.fillStyle = fills[i];
    context.beginPath();
    context.arc(x, y, radius, 0, 7);
    context.fill();
  });
  if (chosen < 0) return;
  context.globalAlpha = 1;
  context.lineWidth = 3 * ratio;
  context.strokeStyle = "#000";
  context.fillStyle = "#fff";
  context.beginPath();
  context.arc(...places[chosen], radius + 3 * ratio, 0, 7);
  context.stroke();
}

function nearest(x, y, within) {
  let best = -1, least = within * within;
  places.forEach(([px, py], i) => {
    const d = (px - x) ** 2 + (py - y) ** 2;
    if (d < least) { least = d; best = i; }
  });
  return best;
}

function beside([dx, dy]) {
  // The nearest point in the direction of the arrow, those off the axis counting as farther.
  if (chosen < 0) return nearest(canvas.width / 2, canvas.height / 2, Infinity);
  const [x, y] = places[chosen];
  let best = chosen, least = Infinity;
  places.forEach(([px, py], i) => {
    const along = (px - x) * dx + (py - y) * dy;
    const across = Math.abs((px - x) * dy - (py - y) * dx);
    if (i !== chosen && along > 0 && along + 2 * across < least) {
      least = along + 2 * across;
      best = i;
    }
  });
  return best;
}

function choose(i, fills) {
  if (i === chosen) return;
  chosen = i;
  draw(fills);
  if (i < 0) return;
  const names = [points.label[i], points.patient_id[i], points.site[i] && `site ${points.site[i]}`];
  told.textContent = [`tile ${points.tile_id[i]}`, ...names.filter(Boolean)].join(", ");
  preview.src = `/tiles/${points.tile_id[i]}.jpg`;
  preview.alt = told.textContent;
  preview.hidden = false;
}

const open = () => {
  if (chosen >= 0) location.href = `/tiles/${points.tile_id[chosen]}?encoder=${canvas.dataset.encoder}`;
};
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

async function start() {
  const answer = await fetch(canvas.dataset.source);
  if (!answer.ok) {
    told.textContent = "There is no map yet: `ffpe run` makes it.";
    return;
  }
  points = await answer.json();
  const fills = colours();
  layOut();
  draw(fills);
  const under = (event) => {
    const ratio = devicePixelRatio || 1;
    return nearest(event.offsetX * ratio, event.offsetY * ratio, 24 * ratio);
  };
  canvas.addEventListener("pointermove", (event) => {
    const i = under(event);
    if (i >= 0) choose(i, fills);
  });
  canvas.addEventListener("click", (event) => {
    const i = under(event);
    if (i >= 0) { choose(i, fills); open(); }
  });
  canvas.addEventListener("keydown", (event) => {
    if (event.key === "Enter") open();
    const arrow = ARROWS[event.key];
    if (arrow) { event.preventDefault(); choose(beside(arrow), fills); }
  });
  addEventListener("resize", () => { layOut(); draw(fills); });
}
start();
