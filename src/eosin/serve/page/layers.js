// What lies over a slide: tissue, evidence, regions, drawing and measuring; scale bar and overview.

import { getBlob, getJson } from "/page/api.js";

export const COLOURS = ["#a8325f", "#2463a8", "#2f7d4f", "#a15c00", "#6d3fb0", "#007a87", "#8a6d00", "#b3261e"];
export const colourOf = (number) => COLOURS[number % COLOURS.length];
const $ = (id) => document.getElementById(id);

export class Layers {
  constructor(viewer, place) {
    this.viewer = viewer;
    this.place = place;
    this.canvas = document.createElement("canvas");
    this.canvas.className = "layer";
    this.overview = document.createElement("canvas");
    this.overview.className = "overview";
    this.overview.hidden = true;
    place.append(this.canvas, this.overview);
    Object.assign(this, { evidence: [], now: null, tissue: null, shown: { tissue: false, evidence: true },
      opacity: 0.55, tool: null, points: [], drawn: null, hand: null });
    this.listen();
  }

  async open(slide) {
    Object.assign(this, { slide, evidence: [], now: null, tissue: null, drawn: null, points: [], thumb: null });
    const blob = await getBlob(`/slides/${slide.key}/thumbnail?px=256`);
    if (this.slide !== slide) return;
    this.thumb = await createImageBitmap(blob);
    const scale = 150 / Math.max(this.thumb.width, this.thumb.height);
    this.overview.width = Math.round(this.thumb.width * scale);
    this.overview.height = Math.round(this.thumb.height * scale);
    this.overview.hidden = false;
    if (this.shown.tissue) await this.showTissue(true);
    this.draw();
  }

  async showTissue(on) {
    this.shown.tissue = on;
    if (on && !this.tissue && this.slide) {
      const slide = this.slide, found = await getJson(`/slides/${slide.key}/tissue`);
      if (slide === this.slide) this.tissue = found.features.map((f) => f.geometry);
    }
    this.draw();
  }

  // evidence: [{id, number, patches: [{um, strength}], tile_um, regions: [[[x, y], ...]]}]
  setEvidence(rows, now) {
    this.evidence = rows;
    this.now = now;
    this.draw();
  }

  // Calls done({points}) with the corners in pixels of level 0.
  use(tool, done, note) {
    this.tool = tool;
    this.points = [];
    this.done = done;
    this.place.classList.toggle("draws", Boolean(tool));
    $("tool-note").textContent = note || "";
    if (tool === null) this.hand = null;
    this.draw();
  }

  listen() {
    const at = (e) => {
      const box = this.canvas.getBoundingClientRect();
      return this.viewer.toSlide(e.clientX - box.left, e.clientY - box.top);
    };
    this.canvas.addEventListener("pointerdown", (e) => {
      if (!this.tool) return;
      this.canvas.setPointerCapture(e.pointerId);
      if (this.tool === "polygon") this.points.push(at(e));
      else this.points = [at(e), at(e)];
      this.draw();
    });
    this.canvas.addEventListener("pointermove", (e) => {
      if (!this.tool || !this.points.length) return;
      if (this.tool === "polygon") this.hand = at(e);
      else if (e.buttons) this.points[1] = at(e);
      this.draw();
    });
    this.canvas.addEventListener("pointerup", () => {
      if (this.tool === "box" && this.points.length === 2) this.finish();
    });
    this.canvas.addEventListener("dblclick", () => this.close());
    this.overview.addEventListener("click", (e) => {
      const box = this.overview.getBoundingClientRect(), [wide, high] = this.slide.size_px, v = this.viewer.view();
      const x = ((e.clientX - box.left) / box.width) * wide, y = ((e.clientY - box.top) / box.height) * high;
      const s = this.viewer.scale();
      this.viewer.panBy((x - (v.x0 + v.x1) / 2) * s, (y - (v.y0 + v.y1) / 2) * s);
    });
  }

  close() {
    if (this.tool === "polygon" && this.points.length >= 3) this.finish();
  }

  finish() {
    const [wide, high] = this.slide.size_px;
    const on = ([x, y]) => [Math.min(wide, Math.max(0, x)), Math.min(high, Math.max(0, y))];
    let points = this.points.map(on);
    if (this.tool === "box") {
      const [[a, b], [c, d]] = points;
      if (Math.abs(a - c) * this.viewer.scale() < 4 || Math.abs(b - d) * this.viewer.scale() < 4) return;
      const [x0, x1] = [Math.min(a, c), Math.max(a, c)], [y0, y1] = [Math.min(b, d), Math.max(b, d)];
      points = [[x0, y0], [x1, y0], [x1, y1], [x0, y1]];
    }
    points = points.map(([x, y]) => [Math.round(x * 10) / 10, Math.round(y * 10) / 10]);
    const done = this.done;
    this.use(null);
    done({ points });
  }

  draw() {
    if (!this.slide || !this.viewer.at) return;
    const dpr = window.devicePixelRatio || 1, [w, h] = this.viewer.size();
    this.canvas.width = Math.round(w * dpr);
    this.canvas.height = Math.round(h * dpr);
    const pen = this.canvas.getContext("2d");
    pen.scale(dpr, dpr);
    if (this.shown.tissue && this.tissue) this.drawTissue(pen);
    if (this.shown.evidence) for (const row of this.evidence) this.drawEvidence(pen, row);
    if (this.drawn) this.ring(pen, this.drawn, "#111", [6, 4], "#fff");
    if (this.points.length) this.drawHand(pen);
    this.drawOverview();
    this.drawScale();
  }

  path(pen, ring) {
    ring.forEach(([x, y], i) => {
      const [a, b] = this.viewer.toScreen(x, y);
      if (i) pen.lineTo(a, b); else pen.moveTo(a, b);
    });
    pen.closePath();
  }

  ring(pen, ring, colour, dash = [], under = null) {
    pen.beginPath();
    this.path(pen, ring);
    pen.setLineDash(dash);
    if (under) {
      pen.strokeStyle = under;
      pen.lineWidth = 4;
      pen.stroke();
    }
    pen.strokeStyle = colour;
    pen.lineWidth = 2;
    pen.stroke();
    pen.setLineDash([]);
  }

  drawTissue(pen) {
    pen.beginPath();
    for (const shape of this.tissue) {
      const polygons = shape.type === "Polygon" ? [shape.coordinates] : shape.coordinates;
      for (const rings of polygons) for (const ring of rings) this.path(pen, ring);
    }
    pen.globalAlpha = this.opacity * 0.5;
    pen.fillStyle = "#2f9e6d";
    pen.fill("evenodd");
    pen.globalAlpha = 1;
    pen.strokeStyle = "#1c7a52";
    pen.lineWidth = 1.5;
    pen.stroke();
  }

  drawEvidence(pen, row) {
    const colour = colourOf(row.number), mpp = this.slide.mpp, isNow = this.now === row.id;
    if (this.now && !isNow) return;
    if (mpp && row.tile_um) {
      const half = row.tile_um / 2 / mpp;
      pen.fillStyle = colour;
      for (const patch of row.patches) {
        const x = patch.um[0] / mpp, y = patch.um[1] / mpp;
        const [a, b] = this.viewer.toScreen(x - half, y - half), [c, d] = this.viewer.toScreen(x + half, y + half);
        pen.globalAlpha = this.opacity * (0.25 + 0.55 * patch.strength);
        pen.fillRect(a, b, c - a, d - b);
      }
      pen.globalAlpha = 1;
    }
    for (const ring of row.regions) {
      this.ring(pen, ring, colour, [], "#ffffffcc");
      const [x, y] = this.viewer.toScreen(Math.min(...ring.map((p) => p[0])), Math.min(...ring.map((p) => p[1])));
      pen.font = "600 12px system-ui, sans-serif";
      const wide = pen.measureText(row.label).width + 10;
      pen.fillStyle = colour;
      pen.fillRect(x, Math.max(0, y - 18), wide, 18);
      pen.fillStyle = "#fff";
      pen.fillText(row.label, x + 5, Math.max(0, y - 18) + 13);
    }
  }

  drawHand(pen) {
    const points = this.hand && this.tool === "polygon" ? [...this.points, this.hand] : this.points;
    if (this.tool === "box") {
      const [[a, b], [c, d]] = points;
      this.ring(pen, [[a, b], [c, b], [c, d], [a, d]], "#111", [6, 4], "#fff");
      return;
    }
    pen.beginPath();
    points.forEach(([x, y], i) => {
      const [a, b] = this.viewer.toScreen(x, y);
      if (i) pen.lineTo(a, b); else pen.moveTo(a, b);
    });
    for (const [colour, width] of [["#fff", 5], ["#111", 2]]) {
      pen.strokeStyle = colour;
      pen.lineWidth = width;
      pen.stroke();
    }
    if (this.tool === "measure") {
      const [[a, b], [c, d]] = points, px = Math.hypot(c - a, d - b), mpp = this.slide.mpp;
      const text = mpp ? length(px * mpp) : `${Math.round(px)} px`;
      const [x, y] = this.viewer.toScreen(c, d);
      pen.font = "600 13px system-ui, sans-serif";
      pen.fillStyle = "#111";
      pen.fillRect(x + 8, y - 20, pen.measureText(text).width + 10, 20);
      pen.fillStyle = "#fff";
      pen.fillText(text, x + 13, y - 6);
      $("tool-note").textContent = text;
    }
  }

  drawOverview() {
    if (!this.thumb) return;
    const pen = this.overview.getContext("2d"), { width, height } = this.overview;
    const [wide, high] = this.slide.size_px, v = this.viewer.view();
    pen.clearRect(0, 0, width, height);
    pen.drawImage(this.thumb, 0, 0, width, height);
    pen.strokeStyle = "#a8325f";
    pen.lineWidth = 2;
    const x0 = Math.max(0, v.x0 / wide) * width, y0 = Math.max(0, v.y0 / high) * height;
    const x1 = Math.min(1, v.x1 / wide) * width, y1 = Math.min(1, v.y1 / high) * height;
    pen.strokeRect(x0 + 1, y0 + 1, Math.max(3, x1 - x0 - 2), Math.max(3, y1 - y0 - 2));
  }

  drawScale() {
    const scale = this.viewer.scale(), mpp = this.slide.mpp;
    if (!mpp) {
      $("scale").style.width = "0";
      $("scale-text").textContent = "scale not stated";
      $("magnification").textContent = `${scale.toPrecision(2)} screen px a pixel`;
      return;
    }
    const um = mpp / scale, most = 120 * um, ten = 10 ** Math.floor(Math.log10(most));
    const nice = [5, 2, 1].map((k) => k * ten).find((v) => v <= most) || ten;
    $("scale").style.width = `${nice / um}px`;
    $("scale-text").textContent = length(nice);
    $("magnification").textContent = `about ${(10 / um).toPrecision(2)}×`;
  }
}

export function length(um) {
  return um >= 1000 ? `${+(um / 1000).toPrecision(3)} mm` : `${+um.toPrecision(3)} µm`;
}
