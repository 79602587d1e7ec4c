// The built-in viewer: DeepZoom tiles on a canvas, moved by pointer, wheel, pinch and keys.

import { getBlob } from "/page/api.js";

const TILE = 254, MOST_TILES = 500, AT_ONCE = 6;

export class PlainViewer {
  constructor(place, onChange) {
    this.place = place;
    this.onChange = onChange;
    this.canvas = document.createElement("canvas");
    this.canvas.className = "picture";
    place.prepend(this.canvas);
    this.tiles = new Map();
    this.waiting = [];
    this.loading = 0;
    this.pointers = new Map();
    this.listen();
    new ResizeObserver(() => this.draw()).observe(place);
  }

  open(slide) {
    this.slide = slide;
    [this.wide, this.high] = slide.size_px;
    this.deepest = Math.ceil(Math.log2(Math.max(this.wide, this.high, 1)));
    this.tiles.clear();
    this.waiting = [];
    this.home(true);
  }

  size() { return [this.place.clientWidth, this.place.clientHeight]; }

  fit(box) {
    const [w, h] = this.size();
    const scale = Math.min(w / (box.x1 - box.x0), h / (box.y1 - box.y0));
    return { x: (box.x0 + box.x1) / 2, y: (box.y0 + box.y1) / 2, scale };
  }

  home(atOnce) { this.go(this.fit({ x0: 0, y0: 0, x1: this.wide, y1: this.high }), atOnce); }

  flyTo(box) {
    const pad = 0.35 * Math.max(box.x1 - box.x0, box.y1 - box.y0);
    const to = this.fit({ x0: box.x0 - pad, y0: box.y0 - pad, x1: box.x1 + pad, y1: box.y1 + pad });
    this.go({ ...to, scale: Math.min(to.scale, this.most()) });
  }

  most() { return 8; }

  least() { return 0.5 * this.fit({ x0: 0, y0: 0, x1: this.wide, y1: this.high }).scale; }

  go(to, atOnce) {
    cancelAnimationFrame(this.flight);
    const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (atOnce || still || !this.at) {
      this.at = to;
      this.draw();
      return;
    }
    const from = this.at, begun = performance.now();
    const step = (now) => {
      const t = Math.min(1, (now - begun) / 350), e = t * t * (3 - 2 * t);
      this.at = {
        x: from.x + (to.x - from.x) * e, y: from.y + (to.y - from.y) * e,
        scale: from.scale * (to.scale / from.scale) ** e,
      };
      this.draw();
      if (t < 1) this.flight = requestAnimationFrame(step);
    };
    this.flight = requestAnimationFrame(step);
  }

  zoomBy(factor, around) {
    if (!this.at) return;
    const [w, h] = this.size();
    const [px, py] = around || [w / 2, h / 2];
    const at = this.toSlide(px, py);
    const scale = Math.min(this.most(), Math.max(this.least(), this.at.scale * factor));
    this.at = { scale, x: at[0] - (px - w / 2) / scale, y: at[1] - (py - h / 2) / scale };
    this.draw();
  }

  panBy(dx, dy) {
    if (!this.at) return;
    const x = this.at.x + dx / this.at.scale, y = this.at.y + dy / this.at.scale;
    this.at = { ...this.at, x: Math.min(this.wide, Math.max(0, x)), y: Math.min(this.high, Math.max(0, y)) };
    this.draw();
  }

  scale() { return this.at ? this.at.scale : 1; }

  toSlide(px, py) {
    const [w, h] = this.size();
    return [this.at.x + (px - w / 2) / this.at.scale, this.at.y + (py - h / 2) / this.at.scale];
  }

  toScreen(x, y) {
    const [w, h] = this.size();
    return [(x - this.at.x) * this.at.scale + w / 2, (y - this.at.y) * this.at.scale + h / 2];
  }

  view() {
    const [w, h] = this.size();
    const [x0, y0] = this.toSlide(0, 0), [x1, y1] = this.toSlide(w, h);
    return { x0, y0, x1, y1 };
  }

  listen() {
    const c = this.canvas;
    c.addEventListener("pointerdown", (e) => {
      c.setPointerCapture(e.pointerId);
      this.pointers.set(e.pointerId, [e.clientX, e.clientY]);
    });
    c.addEventListener("pointermove", (e) => {
      const before = this.pointers.get(e.pointerId);
      if (!before) return;
      const others = [...this.pointers].filter(([id]) => id !== e.pointerId).map(([, p]) => p);
      if (others.length) {
        const [o] = others, far = (p) => Math.hypot(p[0] - o[0], p[1] - o[1]) || 1;
        const box = c.getBoundingClientRect();
        this.zoomBy(far([e.clientX, e.clientY]) / far(before), [o[0] - box.left, o[1] - box.top]);
      } else {
        this.panBy(before[0] - e.clientX, before[1] - e.clientY);
      }
      this.pointers.set(e.pointerId, [e.clientX, e.clientY]);
    });
    for (const end of ["pointerup", "pointercancel"]) c.addEventListener(end, (e) => this.pointers.delete(e.pointerId));
    this.place.addEventListener("wheel", (e) => {
      e.preventDefault();
      const box = c.getBoundingClientRect();
      this.zoomBy(Math.exp(-e.deltaY * 0.0018), [e.clientX - box.left, e.clientY - box.top]);
    }, { passive: false });
    c.addEventListener("dblclick", (e) => {
      const box = c.getBoundingClientRect();
      this.zoomBy(2, [e.clientX - box.left, e.clientY - box.top]);
    });
  }

  draw() {
    if (this.drawn) return;
    this.drawn = requestAnimationFrame(() => {
      this.drawn = 0;
      this.paint();
      this.onChange();
    });
  }

  paint() {
    if (!this.at) return;
    const dpr = window.devicePixelRatio || 1, [w, h] = this.size();
    if (this.canvas.width !== Math.round(w * dpr) || this.canvas.height !== Math.round(h * dpr)) {
      this.canvas.width = Math.round(w * dpr);
      this.canvas.height = Math.round(h * dpr);
    }
    const pen = this.canvas.getContext("2d");
    pen.setTransform(dpr, 0, 0, dpr, 0, 0);
    pen.clearRect(0, 0, w, h);
    const ideal = Math.ceil(this.deepest + Math.log2(Math.max(1e-9, this.at.scale * dpr)) - 0.15);
    const level = Math.max(0, Math.min(this.deepest, ideal));
    this.waiting = [];
    for (let l = Math.min(level, 8); l <= level; l++) this.level(pen, l, l === level || l === Math.min(level, 8));
    this.load();
  }

  level(pen, level, wanted) {
    const shrink = 2 ** (this.deepest - level), view = this.view();
    const wide = Math.ceil(this.wide / shrink), high = Math.ceil(this.high / shrink);
    const first = (v) => Math.max(0, Math.floor(v / shrink / TILE));
    const last = (v, most) => Math.min(Math.ceil(most / TILE) - 1, Math.floor(v / shrink / TILE));
    for (let row = first(view.y0); row <= last(view.y1, high); row++) {
      for (let column = first(view.x0); column <= last(view.x1, wide); column++) {
        const key = `${level}/${column}_${row}`, tile = this.tiles.get(key);
        if (tile === undefined && wanted) this.waiting.push(key);
        if (!tile || tile === "coming") continue;
        this.tiles.delete(key);
        this.tiles.set(key, tile);
        const left = Math.max(0, column * TILE - 1), top = Math.max(0, row * TILE - 1);
        const [x, y] = this.toScreen(left * shrink, top * shrink), s = shrink * this.at.scale;
        pen.imageSmoothingEnabled = level < this.deepest || s < 3;
        pen.drawImage(tile, x, y, tile.width * s, tile.height * s);
      }
    }
  }

  load() {
    while (this.loading < AT_ONCE && this.waiting.length) this.fetch(this.waiting.shift());
  }

  async fetch(key) {
    const slide = this.slide;
    this.tiles.set(key, "coming");
    this.loading += 1;
    try {
      const tile = await createImageBitmap(await getBlob(`/slides/${slide.key}/dz_files/${key}.jpeg`));
      if (slide === this.slide) this.tiles.set(key, tile);
      this.forget();
    } catch {
      if (slide === this.slide) this.tiles.set(key, null);
    } finally {
      this.loading -= 1;
      this.draw();
    }
  }

  forget() {
    for (const [key, tile] of this.tiles) {
      if (this.tiles.size <= MOST_TILES) return;
      if (tile === "coming") continue;
      if (tile) tile.close();
      this.tiles.delete(key);
    }
  }
}
