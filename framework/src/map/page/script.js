"use strict";
// The map of a page: drawn on a canvas, moved by wheel and pointer, told apart by class. All it knows is in the element `data`.
const data = JSON.parse(document.getElementById("data").textContent);
const canvas = document.getElementById("map");
const tip = document.getElementById("tip");
const pen = canvas.getContext("2d");
const buttons = [...document.querySelectorAll("button[data-class]")];
const boxes = [...document.querySelectorAll("input[data-view]")];
const samples = data.names.length;
const style = getComputedStyle(document.documentElement);
const dark = matchMedia("(prefers-color-scheme: dark)");

let alone = null;
let hovered = null;
let view = null;

const shown = (v) => boxes.length === 0 || boxes[v].checked;
const visible = (s) => alone === null || data.labels[s] === alone;
const place = (v, s) => [
  view.x + data.maps[v][2 * s] * view.scale,
  view.y - data.maps[v][2 * s + 1] * view.scale,
];

function fit() {
  let [left, right, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
  for (const map of data.maps) {
    for (let i = 0; i < map.length; i += 2) {
      left = Math.min(left, map[i]);
      right = Math.max(right, map[i]);
      low = Math.min(low, map[i + 1]);
      high = Math.max(high, map[i + 1]);
    }
  }
  const { clientWidth: width, clientHeight: height } = canvas;
  const scale = 0.92 * Math.min(width / (right - left || 1), height / (high - low || 1));
  view = {
    scale,
    x: width / 2 - ((left + right) / 2) * scale,
    y: height / 2 + ((low + high) / 2) * scale,
  };
}

function draw() {
  const ratio = window.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  const ink = style.getPropertyValue("--ink");
  const colours = dark.matches ? data.dark : data.light;
  const colour = (s) => colours[data.labels[s]] || colours[colours.length - 1];
  const size = Math.max(2.5, Math.min(9, 3 + Math.log2(view.scale)));
  // Faint ones first, so that those of the chosen class lie on top.
  for (const strong of [false, true]) {
    for (let v = data.maps.length - 1; v >= 0; v--) {
      if (!shown(v)) continue;
      for (let s = 0; s < samples; s++) {
        if (visible(s) !== strong) continue;
        const [x, y] = place(v, s);
        if (x < -size || y < -size || x > width + size || y > height + size) continue;
        pen.globalAlpha = strong ? (v === 0 ? 0.9 : 0.55) : 0.07;
        pen.beginPath();
        pen.arc(x, y, size, 0, 2 * Math.PI);
        if (v === 0) {
          pen.fillStyle = colour(s);
          pen.fill();
        } else {
          pen.strokeStyle = colour(s);
          pen.lineWidth = 1.5;
          pen.stroke();
        }
      }
    }
  }
  pen.globalAlpha = 1;
  if (hovered) {
    pen.strokeStyle = ink;
    pen.lineWidth = 1.5;
    pen.beginPath();
    for (let v = 0; v < data.maps.length; v++) pen.lineTo(...place(v, hovered.sample));
    pen.closePath();
    pen.stroke();
    pen.beginPath();
    pen.arc(...place(hovered.view, hovered.sample), size + 3, 0, 2 * Math.PI);
    pen.stroke();
  }
}

let asked = false;
function redraw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    draw();
  });
}

function nearest(x, y) {
  let [best, found] = [14 * 14, null];
  for (let v = 0; v < data.maps.length; v++) {
    if (!shown(v)) continue;
    for (let s = 0; s < samples; s++) {
      if (!visible(s)) continue;
      const [px, py] = place(v, s);
      const apart = (px - x) ** 2 + (py - y) ** 2;
      if (apart < best) [best, found] = [apart, { sample: s, view: v }];
    }
  }
  return found;
}

function hover(x, y) {
  hovered = nearest(x, y);
  tip.hidden = !hovered;
  if (hovered) {
    const { sample, view: v } = hovered;
    tip.replaceChildren();
    const row = document.createElement("div");
    for (let i = 0; i < data.maps.length; i++) {
      const source = data.pictures[sample]?.[i];
      if (!source) continue;
      const picture = document.createElement("img");
      picture.src = source;
      picture.alt = data.views[i];
      picture.className = i === v ? "here" : "";
      row.append(picture);
    }
    const text = (content, kind) => {
      const line = document.createElement("p");
      line.textContent = content;
      line.className = kind;
      tip.append(line);
    };
    tip.append(row);
    text(data.names[sample], "name");
    text([data.classes[data.labels[sample]], data.views[v]].filter(Boolean).join(" · "), "soft");
    const frame = canvas.getBoundingClientRect();
    const left = Math.min(x + 16, frame.width - tip.offsetWidth - 8);
    const above = y + 16 + tip.offsetHeight > frame.height ? y - tip.offsetHeight - 12 : y + 16;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${Math.max(8, above)}px`;
  }
  redraw();
}

function isolate(label) {
  alone = alone === label ? null : label;
  for (const button of buttons) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.class) === alone));
  }
  hovered = null;
  tip.hidden = true;
  redraw();
}

function zoom(x, y, factor) {
  const scale = Math.max(1e-3, Math.min(1e6, view.scale * factor));
  factor = scale / view.scale;
  view = { scale, x: x - (x - view.x) * factor, y: y - (y - view.y) * factor };
  redraw();
}

function reset() {
  fit();
  if (alone !== null) isolate(alone);
  redraw();
}

const fingers = new Map();
const at = (event) => {
  const frame = canvas.getBoundingClientRect();
  return [event.clientX - frame.left, event.clientY - frame.top];
};
canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  fingers.set(event.pointerId, at(event));
});
canvas.addEventListener("pointermove", (event) => {
  const now = at(event);
  const before = fingers.get(event.pointerId);
  if (!before) {
    hover(...now);
    return;
  }
  tip.hidden = true;
  const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1];
  if (other) {
    const apart = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]) || 1;
    zoom(...other, apart(now, other) / apart(before, other));
  } else {
    view = { ...view, x: view.x + now[0] - before[0], y: view.y + now[1] - before[1] };
  }
  fingers.set(event.pointerId, now);
  redraw();
});
const lift = (event) => {
  fingers.delete(event.pointerId);
  if (event.type === "pointerup") hover(...at(event));
};
canvas.addEventListener("pointerup", lift);
canvas.addEventListener("pointercancel", lift);
canvas.addEventListener("pointerleave", () => {
  hovered = null;
  tip.hidden = true;
  redraw();
});
canvas.addEventListener(
  "wheel",
  (event) => {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 30 : 1;
    zoom(...at(event), Math.exp(-0.0015 * lines * event.deltaY));
  },
  { passive: false },
);
canvas.addEventListener("dblclick", reset);
canvas.addEventListener("keydown", (event) => {
  const [x, y] = [canvas.clientWidth / 2, canvas.clientHeight / 2];
  const step = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] }[event.key];
  if (step) view = { ...view, x: view.x + step[0], y: view.y + step[1] };
  else if (event.key === "+" || event.key === "=") zoom(x, y, 1.25);
  else if (event.key === "-") zoom(x, y, 0.8);
  else if (event.key === "Escape") reset();
  else return;
  event.preventDefault();
  redraw();
});
for (const button of buttons) button.addEventListener("click", () => isolate(Number(button.dataset.class)));
dark.addEventListener("change", redraw);
for (const box of boxes) box.addEventListener("change", redraw);
document.getElementById("reset").addEventListener("click", reset);
new ResizeObserver(() => {
  if (!view) fit();
  redraw();
}).observe(canvas);
fit();
draw();
