"use strict";

const report = JSON.parse(document.getElementById("data").textContent);
const find = (id) => document.getElementById(id);
const NAMES = { source: "source", filtered: "filtered, before encoding", encoded: "result, as encoded" };

function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function drawn(name, attributes, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

/* ---- pictures: planes of codes, with all their bits, so that raised contrast shows no rounding of our own ---- */

/** Codes of a plane: zlib, low bytes before high bytes, each code's difference to the one before. */
async function unpack(text) {
  const packed = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  const count = bytes.length / 2;
  const codes = new Uint16Array(count);
  for (let i = 0, code = 0; i < count; i++) {
    code = (code + bytes[i] + 256 * bytes[count + i]) & 65535;
    codes[i] = code;
  }
  return codes;
}

/** The planes of one version of a picture, in nominal levels. */
async function loadPlanes(packed) {
  return Promise.all(packed.map(async ({ width, height, zero, span, codes }) => (
    { width, height, values: Float32Array.from(await unpack(codes), (code) => (code - zero) / span) }
  )));
}

/** Means over boxes of 2 * radius + 1 pixels, along rows (stride 1) or columns. */
function boxMeans(values, lines, length, lineStride, stride, radius) {
  const means = new Float32Array(values.length);
  for (let line = 0; line < lines; line++) {
    const at = (i) => line * lineStride + i * stride;
    let sum = 0, count = 0;
    for (let i = 0; i < Math.min(radius, length); i++, count++) sum += values[at(i)];
    for (let i = 0; i < length; i++) {
      if (i + radius < length) { sum += values[at(i + radius)]; count++; }
      if (i - radius > 0) { sum -= values[at(i - radius - 1)]; count--; }
      means[at(i)] = sum / count;
    }
  }
  return means;
}

/** Means of each pixel's neighbourhood. */
function localMeans(plane, radius) {
  let means = plane.values;
  for (let pass = 0; pass < 2; pass++) {
    means = boxMeans(means, plane.height, plane.width, plane.width, 1, radius);
    means = boxMeans(means, plane.width, plane.height, 1, plane.width, radius);
  }
  return means;
}

/** A plane with its contrast raised about the local mean, which turns to grey with it. */
function raise(plane, factor, middle, fullWidth) {
  if (factor === 1) return plane.values;
  plane.means ??= localMeans(plane, Math.max(1, Math.round(report.radius * plane.width / fullWidth)));
  const grey = Math.min(1, (factor - 1) / (report.greyFactor - 1));
  return plane.values.map((v, i) => plane.means[i] + (middle - plane.means[i]) * grey + (v - plane.means[i]) * factor);
}

/** Planes as a picture for a screen; dithered, since rounding would draw bands of its own. */
function toImage(planes, factor) {
  const { width, height } = planes[0];
  const { to_rgb: matrix, middle } = report.colours;
  const shown = planes.map((plane, p) => raise(plane, factor, middle[p], width));
  const image = new ImageData(width, height);
  let seed = 1;
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i += 4) {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      const noise = seed / 4294967296;
      for (let c = 0; c < 3; c++) {
        let value = noise;
        for (let p = 0; p < planes.length; p++) value += matrix[c][p] * shown[p][indexIn(planes, p, x, y)];
        image.data[i + c] = Math.max(0, Math.min(255, Math.floor(value)));
      }
      image.data[i + 3] = 255;
    }
  }
  return image;
}

/** Where a pixel of the first plane is in another. */
function indexIn(planes, p, x, y) {
  const plane = planes[p];
  if (plane.width === planes[0].width && plane.height === planes[0].height) return y * plane.width + x;
  const column = Math.floor(x * plane.width / planes[0].width);
  return Math.floor(y * plane.height / planes[0].height) * plane.width + column;
}

/** A map of the largest change among the planes: orange is brighter, blue darker, unchanged is clear. */
function toOverlay(before, after) {
  const { width, height } = before[0];
  const image = new ImageData(width, height);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i += 4) {
      let change = 0;
      for (let p = 0; p < before.length; p++) {
        const at = indexIn(before, p, x, y);
        const own = (after[p].values[at] - before[p].values[at]) * report.colours.steps[p];
        if (Math.abs(own) > Math.abs(change)) change = own;
      }
      image.data.set(change > 0 ? report.raised : report.lowered, i);
      image.data[i + 3] = 255 * Math.min(1, Math.abs(change) / report.fullChange);
    }
  }
  return image;
}

function toCanvas(image) {
  const canvas = element("canvas", { width: image.width, height: image.height });
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

const viewer = {
  loaded: new Map(),
  frame: 0,
  updates: 0,

  async planes(version) {
    const key = `${this.frame} ${version}`;
    if (!this.loaded.has(key)) this.loaded.set(key, loadPlanes(report.frames[this.frame].versions[version]));
    return this.loaded.get(key);
  },

  /** Draws both sides anew: another picture, version, contrast or overlay was chosen. */
  async update() {
    const factor = 2 ** Number(find("contrast").value);
    find("factor").textContent = `x${Number(factor.toFixed(1))}`;
    find("contrast").setAttribute("aria-valuetext", find("factor").textContent);
    const update = ++this.updates;
    const [left, right] = await Promise.all([this.planes(find("left").value), this.planes(find("right").value)]);
    if (update !== this.updates) return; // something else was chosen meanwhile
    this.left = toCanvas(toImage(left, factor));
    this.right = toCanvas(toImage(right, factor));
    this.overlay = find("overlay").checked ? toCanvas(toOverlay(left, right)) : null;
    this.compose();
    find("picture").dataset.drawn = Number(find("picture").dataset.drawn ?? 0) + 1;
  },

  /** Puts the sides together at the divider, which stays in sight where the picture is scrolled. */
  compose() {
    if (!this.left) return;
    const canvas = find("picture"), stage = find("stage"), divider = find("divider");
    const { width, height } = this.left;
    const ratio = window.devicePixelRatio; // a pixel of the picture is one of the screen
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    Object.assign(canvas.style, { width: `${width / ratio}px`, height: `${height / ratio}px` });
    const visible = Math.min(stage.clientWidth * ratio, width);
    const split = Math.round(stage.scrollLeft * ratio + visible * find("split").value / 1000);
    const context = canvas.getContext("2d");
    context.drawImage(this.right, 0, 0);
    if (split > 0) context.drawImage(this.left, 0, 0, split, height, 0, 0, split, height);
    if (this.overlay) context.drawImage(this.overlay, 0, 0);
    divider.hidden = false;
    Object.assign(divider.style, { left: `${split / ratio}px`, height: `${height / ratio}px` });
  },
};

function setUpViewer() {
  report.frames.forEach((frame, i) => {
    const radio = element("input", { type: "radio", name: "frame", value: i });
    radio.checked = i === 0;
    radio.addEventListener("change", () => { viewer.frame = i; showFrame(); });
    find("frames").append(element("label", {}, radio, frame.clock));
  });
  for (const [id, chosen] of [["left", "source"], ["right", "encoded"]]) {
    for (const [version, name] of Object.entries(NAMES)) find(id).append(element("option", { value: version }, name));
    find(id).value = chosen;
    find(id).addEventListener("change", () => viewer.update());
  }
  for (const id of ["contrast", "overlay"]) find(id).addEventListener("input", () => viewer.update());
  find("split").addEventListener("input", () => viewer.compose());
  find("stage").addEventListener("scroll", () => viewer.compose());
  new ResizeObserver(() => viewer.compose()).observe(find("stage"));
  window.addEventListener("resize", () => viewer.compose()); // at another zoom, too
  const drag = (event) => {
    const box = find("stage").getBoundingClientRect();
    const visible = Math.min(find("stage").clientWidth, find("picture").clientWidth);
    find("split").value = 1000 * (event.clientX - box.left) / visible;
    viewer.compose();
  };
  find("divider").addEventListener("pointerdown", (event) => find("divider").setPointerCapture(event.pointerId));
  find("divider").addEventListener("pointermove", (event) => { if (event.buttons) drag(event); });
  find("picture").addEventListener("click", drag);
  showFrame();
}

function showFrame() {
  const frame = report.frames[viewer.frame];
  find("where").textContent = window.DecompressionStream ? frame.where
    : "This browser is too old to unpack the pictures: it lacks DecompressionStream.";
  find("picture").setAttribute("aria-label", `Picture at ${frame.clock}: left and right of the divider`);
  viewer.update();
}

/* ---- curves ---- */

/** A round number of which a few make up `most`. */
function roundStep(most) {
  const power = 10 ** Math.floor(Math.log10(most / 4 || 1));
  return [1, 2, 5, 10].map((n) => n * power).find((step) => most / step <= 5);
}

const CHART = { height: 200, left: 44, right: 12, top: 10, bottom: 24 };

function chart(container, title, series) {
  const { height, left, right, top, bottom } = CHART;
  const times = report.curves.times;
  const legend = element("div", { class: "legend", "aria-live": "polite" });
  const label = `${title}. The arrow keys go through the pictures.`;
  const svg = drawn("svg", { role: "application", tabindex: 0, "aria-label": label });
  container.replaceChildren(svg, legend);
  const most = Math.max(...series.flatMap((s) => s.values)) || 1;
  const draw = (cursor) => {
    const width = svg.clientWidth || 600;
    const span = times.at(-1) - times[0] || 1;
    const x = (i) => left + (width - left - right) * (times[i] - times[0]) / span;
    const step = roundStep(most), ceiling = Math.ceil(most / step) * step;
    const y = (value) => height - bottom - (height - top - bottom) * value / ceiling;
    svg.replaceChildren();
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    for (let value = 0; value <= ceiling + step / 2; value += step) {
      svg.append(drawn("line", { class: "grid", x1: left, x2: width - right, y1: y(value), y2: y(value) }));
      svg.append(drawn("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, Number(value.toPrecision(3))));
    }
    const labels = width < 500 ? [0, times.length - 1] : [0, Math.floor((times.length - 1) / 2), times.length - 1];
    for (const i of new Set(labels)) {
      const anchor = i === 0 ? "start" : i === times.length - 1 ? "end" : "middle";
      svg.append(drawn("text", { x: x(i), y: height - 6, "text-anchor": anchor }, report.curves.clocks[i]));
    }
    for (const { name, values } of series) {
      const points = values.map((value, i) => `${x(i).toFixed(1)} ${y(value).toFixed(1)}`);
      const shape = points.length > 1 ? drawn("path", { class: name, d: `M${points.join("L")}` })
        : drawn("circle", { class: name, cx: x(0), cy: y(values[0]), r: 4 });
      svg.append(shape);
    }
    if (cursor !== null) svg.append(drawn("line", { class: "cursor", x1: x(cursor), x2: x(cursor), y1: top, y2: height - bottom }));
    legend.replaceChildren(...series.map(({ name, values }) => {
      const line = drawn("svg", { viewBox: "0 0 28 10", "aria-hidden": "true" });
      line.append(drawn("path", { class: name, d: "M0 5H28" }));
      const value = cursor === null ? "" : ` ${values[cursor].toFixed(2)}`;
      return element("span", {}, line, ` ${NAMES[name]}${value}`);
    }), ...(cursor === null ? [] : [element("span", {}, `at ${report.curves.clocks[cursor]}`)]));
  };
  let cursor = null;
  const move = (to) => { cursor = to; draw(cursor); };
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const time = times[0] + (times.at(-1) - times[0]) * (event.clientX - box.left - left) / (box.width - left - right);
    const far = times.map((t) => Math.abs(t - time));
    move(far.indexOf(Math.min(...far)));
  });
  svg.addEventListener("pointerleave", () => move(null));
  svg.addEventListener("keydown", (event) => {
    const last = times.length - 1;
    const to = { ArrowLeft: (cursor ?? last + 1) - 1, ArrowRight: (cursor ?? -1) + 1, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    move(Math.max(0, Math.min(last, to)));
  });
  new ResizeObserver(() => draw(cursor)).observe(container);
  draw(null);
}

/* ---- words and tables ---- */

function fill() {
  document.title = `Debanding report: ${report.files.source}`;
  find("files").textContent = `${report.files.source} → ${report.files.output}`;
  for (const { text, warn } of report.verdict) {
    find("verdict").append(element("li", warn ? { class: "warn" } : {}, text));
  }
  for (const [name, value] of report.figures) {
    find("figures").append(element("div", {}, element("dt", {}, name), element("dd", {}, value)));
  }
  const { clocks, charts } = report.curves;
  const columns = [["time", clocks]];
  for (const [title, series] of Object.entries(charts)) {
    const curves = Object.entries(series).map(([name, values]) => ({ name, values }));
    const container = element("div", { class: "chart" });
    find("charts").append(element("figure", {}, element("figcaption", {}, title), container));
    chart(container, title, curves);
    for (const { name, values } of curves) columns.push([`${title.split(" at ")[0]}: ${NAMES[name]}`, values]);
  }
  find("curves").append(element("tr", {}, ...columns.map(([name]) => element("th", { scope: "col" }, name))));
  clocks.forEach((_, i) => {
    const cells = columns.map(([, values]) => typeof values[i] === "number" ? values[i].toFixed(2) : values[i]);
    find("curves").append(element("tr", {}, ...cells.map((cell) => element("td", {}, cell))));
  });
  for (const { title, columns: heads, rows } of report.tables) {
    const table = element("table", {}, element("caption", {}, title));
    if (heads) table.append(element("tr", {}, element("td"), ...heads.map((h) => element("th", { scope: "col" }, h))));
    for (const [name, ...cells] of rows) {
      const values = cells.map((cell) => element("td", {}, cell));
      table.append(element("tr", {}, element("th", { scope: "row" }, name), ...values));
    }
    find("tables").append(table);
  }
}

fill();
setUpViewer();
