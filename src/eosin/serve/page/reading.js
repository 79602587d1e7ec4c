// A reading: streamed, shown with standing and places, corrected, signed, given out.

import { download, getJson, newKey, postJson } from "/page/api.js";
import { colourOf } from "/page/layers.js";
import { make } from "/page/make.js";
import { revealed } from "/page/revealed.js";

const TITLES = { findings: "Findings", reasoning: "Reasoning", answer: "Answer", other: "Reply" };
const PENDING = "eosin-pending";

export class Reading {
  // app: {place, layers, flyTo, say, facts, initials()}; model: its facts; number: of the column, from 0;
  // title: whether the column says whose reply it holds; active(): whether its evidence is the one on the slide
  constructor(app) {
    this.app = app;
    this.clear();
  }

  id(name) { return this.app.number ? `${name}-${this.app.number + 1}` : name; }

  clear() {
    this.asking = [];
    this.reading = null;
    this.now = null;
    this.versions = [];
    this.blocks = {};
    this.put();
    if (this.app.active()) this.app.layers.setEvidence([], null);
  }

  // What the column holds, below its title.
  put(...parts) {
    this.app.place.replaceChildren(...(this.app.title ? [this.title()] : []), ...parts);
  }

  title() {
    const name = this.reading ? this.called() : this.app.model.name, on = this.app.active();
    return make("h2", { class: "whose" }, make("button", { "aria-pressed": String(on), title: `Show where this model looked (${this.app.number + 1})`,
      onclick: () => this.app.activate() }, name));
  }

  // Whose reply it is; in a blinded study the label, and the name beside it once the reader may know it.
  called() {
    const { label, model } = this.reading;
    return label && label !== model ? `${label}: ${model}` : model;
  }

  // Asks for the name again, and leaves everything else as it stands.
  async rename() {
    const id = this.reading.id, told = await getJson(`/readings/${id}?reader=${encodeURIComponent(this.app.initials() || "x")}`);
    if (!this.reading || this.reading.id !== id) return;
    this.reading.model = told.model;
    const title = this.app.place.querySelector(".whose");
    if (title) title.replaceWith(this.title());
  }

  // The column takes, or gives up, the slide's overlay and the keys.
  turned() {
    const on = this.app.active(), button = this.app.place.querySelector(".whose button");
    this.app.place.classList.toggle("active", on);
    if (button) button.setAttribute("aria-pressed", String(on));
    if (on && this.reading) this.drawLayers();
    else if (on) this.app.layers.setEvidence([], null);
  }

  // ---- streaming

  // slides: keys of those that are asked about
  begin(slides = []) {
    this.clear();
    this.asking = slides;
    this.app.place.setAttribute("aria-busy", "true");
  }

  looking(text) {
    if (!this.lookingAt || !this.lookingAt.isConnected) {
      this.lookingAt = make("p", { class: "dim stream live" });
      this.app.place.append(this.lookingAt);
    }
    this.lookingAt.textContent = text;
  }

  text(block, text) {
    if (this.lookingAt) this.lookingAt.remove();
    if (!this.blocks[block]) {
      for (const p of Object.values(this.blocks)) p.classList.remove("live");
      this.blocks[block] = make("p", { class: "stream live", "data-block": block });
      this.app.place.append(make("h2", {}, TITLES[block]), this.blocks[block]);
    }
    this.blocks[block].append(text);
  }

  // Why there is no reply, in the column itself where there are two.
  failed(text) {
    if (!this.app.title) return this.app.say(text);
    return this.app.place.append(make("p", { class: "message", role: "alert" }, text));
  }

  end() {
    this.app.place.setAttribute("aria-busy", "false");
    if (this.lookingAt) this.lookingAt.remove();
    for (const p of Object.values(this.blocks)) p.classList.remove("live");
  }

  // ---- what is known of it

  show(reading, versions = []) {
    this.reading = reading;
    this.versions = versions;
    const own = versions.filter((v) => v.reader === this.app.initials()).at(-1);
    this.draft = own ? this.fromVersion(own) : this.fromReading();
    this.draw();
  }

  fromReading() {
    return {
      statements: this.reading.statements.map((s) => ({ id: s.id, block: s.block, text: s.text, state: "kept", regions: null })),
      answer: this.reading.answer, rating: null, comment: "",
    };
  }

  fromVersion(v) {
    return { statements: v.statements.map((s) => ({ ...s })), answer: v.answer, rating: v.rating, comment: v.comment };
  }

  addEvidence(told) {
    const row = this.reading && this.reading.statements.find((s) => s.id === told.statement);
    if (!row) return;
    row.evidence = told;
    this.draw();
  }

  model(id) { return this.reading.statements.find((s) => s.id === id) || {}; }

  // Keys of the slides that it is about, or will be.
  keys() {
    if (!this.reading) return this.asking;
    return (this.reading.slides || []).length ? this.reading.slides.map((o) => o.key) : [this.reading.slide];
  }

  // {ring, slide}: corners in pixels of level 0, and the key of the slide that they lie on
  regions(s) {
    const home = this.reading.slide;
    if (s.regions) return s.regions.map((r) => ({ ring: r.points, slide: r.slide || home }));
    const told = this.model(s.id).evidence;
    return (told ? told.boxes : []).filter((b) => b.px).map(({ px: [x0, y0, x1, y1], slide }) => (
      { ring: [[x0, y0], [x1, y0], [x1, y1], [x0, y1]], slide: slide || home }));
  }

  // The name of a slide, where the reading is about several.
  slideName(key) { return ((this.reading.slides || []).find((o) => o.key === key) || {}).name; }

  drawLayers() {
    if (!this.app.active()) return;
    const home = this.reading.slide, here = (this.app.layers.slide || {}).key || home;
    const rows = this.draft.statements.filter((s) => s.state !== "struck").map((s) => {
      const told = this.model(s.id).evidence;
      return { id: s.id, number: this.number(s), label: s.id, tile_um: told && told.tile_um,
        patches: s.regions || !told ? [] : told.patches.filter((p) => (p.slide || home) === here),
        regions: this.regions(s).filter((r) => r.slide === here).map((r) => r.ring) };
    });
    this.app.layers.setEvidence(rows, this.now);
  }

  number(s) { return this.draft.statements.indexOf(s); }

  choose(s, fly = true) {
    if (s) this.app.activate();
    this.now = s ? s.id : null;
    this.drawLayers();
    for (const el of this.app.place.querySelectorAll(".statement")) el.classList.toggle("now", el.dataset.id === this.now);
    const [first] = s ? this.regions(s) : [];
    if (fly && first) this.app.flyTo(bounds(first.ring), first.slide);
  }

  step(by) {
    if (!this.reading || !this.draft.statements.length) return;
    const all = this.draft.statements, at = all.findIndex((s) => s.id === this.now);
    const next = all[(at + by + all.length) % all.length];
    this.choose(next);
    const el = this.app.place.querySelector(`.statement[data-id="${next.id}"]`);
    el.querySelector(".text").focus();
    el.scrollIntoView({ block: "nearest" });
  }

  draw() {
    const { place, facts } = this.app, r = this.reading, parts = [];
    this.lookingAt = null;
    if ((r.slides || []).length) parts.push(make("p", { class: "dim" }, `About ${r.slides.length} slides together: ${r.slides.map((o) => o.name).join(", ")}`));
    if (r.hidden) parts.push(make("p", { class: "message info" }, "Blinded: write your own reading; the model's is shown once you have signed."));
    for (const block of ["findings", "reasoning"]) {
      const rows = this.draft.statements.filter((s) => s.block === block);
      if (rows.length) parts.push(make("h2", {}, TITLES[block]), ...rows.map((s) => this.statement(s)));
    }
    if (facts.corrects) parts.push(make("button", { id: this.id("add"), onclick: () => this.add() }, "Add a finding"));
    parts.push(make("h2", {}, "Answer"), this.answer());
    if (facts.blinded && !r.hidden) parts.push(revealed(r, this.whose()));
    if ((r.flags || []).length) parts.push(make("ul", { class: "flags" }, ...r.flags.map((f) => make("li", {}, f))));
    if (r.unparsed_reason) parts.push(make("p", { class: "message info" }, `The reply does not follow its form: ${r.unparsed_reason}.`));
    if (facts.corrects) parts.push(...this.correction());
    this.put(...parts);
    this.drawLayers();
  }

  statement(s) {
    const known = this.model(s.id), number = make("span", { class: "number" }, s.id);
    number.style.background = colourOf(this.number(s));
    const text = make("button", { class: "text", title: "Fly to its region", onclick: () => this.choose(s) }, s.text);
    const say = make("div", { class: "say" }, number, text);
    const below = make("div", { class: "below" });
    if (known.verdict && s.state !== "edited") below.append(make("span", { class: `tag ${known.verdict}` }, known.verdict));
    if (s.state !== "kept") below.append(make("span", { class: `tag ${s.state}` }, s.state));
    this.regions(s).forEach(({ ring, slide }, i) => below.append(make("button", {
      class: "quiet", title: "Fly there", onclick: () => { this.choose(s, false); this.app.flyTo(bounds(ring), slide); },
    }, `region ${i + 1}${this.slideName(slide) ? ` on ${this.slideName(slide)}` : ""}`)));
    if (known.evidence && !this.regions(s).length) below.append(make("span", { class: "dim", title: known.evidence.note }, "no region"));
    if (this.app.facts.corrects) this.buttons(s, say, below);
    const box = make("div", { class: `statement ${s.state}`, "data-id": s.id }, say, below);
    if (s.id === this.now) box.classList.add("now");
    if ((known.paths || []).length) box.append(this.path(known.paths));
    if ((known.unseen || []).length) box.append(make("p", { class: "dim" }, `Cannot be seen here: ${known.unseen.join(", ")}`));
    return box;
  }

  path(paths) {
    const lines = paths.flatMap((p) => [
      make("p", {}, `${p.polarity === "absent" ? "absence of " : ""}${p.finding} and ${p.diagnosis}: ${p.verdict}`),
      ...p.steps.map((step, i) => make("p", { class: "dim" }, `${step} (${p.sources[i]})`)),
    ]);
    return make("details", {}, make("summary", {}, "in the knowledge graph"), ...lines);
  }

  buttons(s, say, below) {
    const region = (tool) => () => this.app.layers.use(tool, (r) => {
      const here = this.app.layers.slide.key;
      s.regions = [...(s.regions || []), here === this.reading.slide ? r : { ...r, slide: here }];
      this.changed(s);
    }, tool === "box" ? `Draw the region of ${s.id}; Esc stops` : `Click the corners of ${s.id}; Enter closes, Esc stops`);
    below.append(
      make("button", { "aria-label": `Edit ${s.id}${this.whose()}`, onclick: () => this.edit(s, say) }, "Edit"),
      make("button", { "aria-label": `Strike ${s.id}${this.whose()}`, onclick: () => this.strike(s) }, s.state === "struck" ? "Keep" : "Strike"),
      make("button", { "aria-label": `Draw a region of ${s.id}${this.whose()}`, onclick: region("box") }, "Region"),
    );
    if (s.regions) below.append(make("button", { "aria-label": `Regions of ${s.id}${this.whose()} as the model gave them`, onclick: () => { s.regions = null; this.changed(s); } }, "Undo region"));
  }

  edit(s, say) {
    if (say.nextSibling && say.nextSibling.tagName === "TEXTAREA") return;
    const area = make("textarea", { rows: 3, "aria-label": `Text of ${s.id}${this.whose()}`, maxlength: 4000 });
    area.value = s.text;
    const done = () => {
      const text = area.value.trim(), own = this.model(s.id).text;
      if (text) {
        s.text = text;
        s.state = own === undefined ? "added" : text === own ? "kept" : "edited";
      }
      this.changed(s);
    };
    area.addEventListener("change", done);
    area.addEventListener("keydown", (e) => {
      if (e.key === "Escape" || (e.key === "Enter" && !e.shiftKey)) {
        e.preventDefault();
        area.blur();
      }
      e.stopPropagation();
    });
    say.after(area);
    area.focus();
  }

  strike(s) {
    const own = this.model(s.id).text;
    if (own === undefined) this.draft.statements = this.draft.statements.filter((o) => o !== s);
    else s.state = s.state === "struck" ? (s.text === own ? "kept" : "edited") : "struck";
    this.changed(s);
  }

  add() {
    const number = 1 + Math.max(0, ...this.draft.statements.filter((s) => s.id[0] === "a").map((s) => +s.id.slice(1)));
    const s = { id: `a${number}`, block: "findings", text: "New finding", state: "added", regions: null };
    const last = this.draft.statements.findLastIndex((o) => o.block === "findings");
    this.draft.statements.splice(last + 1, 0, s);
    this.changed(s);
    const box = this.app.place.querySelector(`.statement[data-id="${s.id}"]`);
    this.edit(s, box.querySelector(".say"));
    box.querySelector("textarea").select();
  }

  onKey(key) {
    const s = this.reading && this.draft.statements.find((o) => o.id === this.now);
    if (!s || !this.app.facts.corrects) return;
    const box = this.app.place.querySelector(`.statement[data-id="${s.id}"]`);
    if (key === "e") this.edit(s, box.querySelector(".say"));
    if (key === "x") this.strike(s);
  }

  changed(s) {
    this.now = s && this.draft.statements.includes(s) ? s.id : null;
    this.draw();
  }

  answer() {
    const r = this.reading, box = make("div", { class: "answer" });
    const own = r.answer || (r.hidden ? "(hidden)" : "(none)"), said = this.draft.answer;
    const differs = said && said !== r.answer;
    box.append(make("div", { class: "said" }, differs ? make("del", {}, own) : own, differs ? ` ${said}` : null));
    if (r.confidence) {
      const c = r.confidence, percent = `${Math.round(100 * c.value)} %`;
      box.append(c.abstains
        ? make("div", { class: "sure abstains" }, `The model abstains: of such answers about ${percent} were right.`)
        : make("div", { class: "sure" }, `Calibrated confidence ${percent}`), make("div", { class: "sure" }, `from ${c.from}`));
    } else if (!r.hidden) {
      const why = this.app.model.calibrated === null ? "none is told for it" : !this.app.model.calibrated ? "this server was given no calibration" : "it holds for closed questions only";
      box.append(make("div", { class: "sure" }, `No confidence: ${why}.`));
    }
    return box;
  }

  // ---- correction

  whose() { return this.app.title ? ` of the reply of ${this.called()}` : ""; }

  correction() {
    const d = this.draft, options = this.reading.options;
    const answer = options.length
      ? make("select", { id: this.id("answer") }, ...["", ...options].map((o) => make("option", { value: o, selected: o === d.answer }, o || "(none)")))
      : make("input", { id: this.id("answer"), maxlength: 4000 });
    if (!options.length) answer.value = d.answer;
    answer.addEventListener("change", () => {
      d.answer = answer.value;
      this.app.place.querySelector(".answer").replaceWith(this.answer());
    });
    const comment = make("textarea", { id: this.id("comment"), rows: 2, maxlength: 8000 });
    comment.value = d.comment;
    comment.addEventListener("change", () => { d.comment = comment.value; });
    const rating = make("fieldset", { class: "rating" }, make("legend", {}, "Rating"), ...[1, 2, 3, 4, 5].map((k) => make("label", {},
      make("input", { type: "radio", name: this.id("rating"), value: k, checked: d.rating === k, onchange: () => { d.rating = k; } }), String(k))));
    const initials = make("input", { id: this.id("initials"), class: "initials", maxlength: 16, value: this.app.initials() });
    initials.addEventListener("change", () => this.app.setInitials(initials.value.trim()));
    const box = make("section", { class: "correct", "aria-label": `Correction${this.whose()}` }, make("h2", {}, `Correction${this.whose()}`),
      make("label", {}, "Answer", answer), rating, make("label", {}, "Comment", comment),
      make("div", { class: "row" }, make("label", {}, "Initials", initials),
        make("button", { id: this.id("save"), onclick: () => this.keep(false) }, "Keep draft"),
        make("button", { id: this.id("sign"), class: "main", onclick: () => this.keep(true) }, "Sign")));
    const parts = [box];
    if (this.versions.length) parts.push(make("ol", { class: "history", "aria-label": `Versions${this.whose()}` }, ...this.versions.map((v) => make("li", {},
      `${v.reader} ${v.version}${v.is_signed ? ", signed" : ", draft"}, ${new Date(1000 * v.created).toLocaleString()}`))));
    parts.push(this.exports());
    return parts;
  }

  exports() {
    const id = this.reading.id, who = () => encodeURIComponent(this.app.initials());
    const give = (path, name) => () => download(path(), name).catch((e) => this.app.say(e.message));
    const file = make("input", { type: "file", accept: ".geojson,.json", hidden: true, onchange: (e) => this.takeIn(e.target.files[0]) });
    return make("div", { class: "exports" },
      make("button", { id: this.id("give-geojson"), onclick: give(() => `/readings/${id}/geojson?reader=${who()}`, `${id.slice(0, 8)}.geojson`) }, "GeoJSON for QuPath"),
      make("button", { onclick: () => file.click() }, "From QuPath"), file,
      make("button", { onclick: give(() => `/readings/${id}/labelstudio?reader=${who()}`, `${id.slice(0, 8)}.json`) }, "Label Studio"),
      make("button", { id: this.id("give-all"), onclick: give(() => "/corrections/export", "eosin-corrections.zip") }, "All corrections"));
  }

  async takeIn(file) {
    if (!file) return;
    try {
      const who = encodeURIComponent(this.app.initials());
      const told = await postJson(`/readings/${this.reading.id}/geojson?reader=${who}&key=${newKey()}`, JSON.parse(await file.text()));
      await this.again();
      this.app.say(told.set_aside.length ? `Taken in; set aside: ${told.set_aside.join("; ")}` : "The regions were taken in as a new draft.", true);
    } catch (e) {
      this.app.say(`These shapes cannot be used: ${e.message}`);
    }
  }

  async keep(sign) {
    const reader = this.app.initials();
    if (!/^[A-Za-z][A-Za-z0-9._-]{0,15}$/.test(reader)) {
      this.app.say("Initials are needed: a letter, then letters or digits.");
      this.app.place.querySelector(".initials").focus();
      return;
    }
    const d = this.draft;
    const body = { key: newKey(), reader, answer: d.answer, comment: d.comment, rating: d.rating, is_signed: sign, statements: d.statements };
    const waiting = [...pending(), { reading: this.reading.id, body }];
    localStorage.setItem(PENDING, JSON.stringify(waiting));
    try {
      const told = await sendPending();
      const shown = told.at(-1) && told.at(-1).revealed;
      if (shown) this.reading = shown;
      await this.again();
      if (shown && this.app.title) await this.app.renamed(this);
      this.app.say(`${sign ? "Signed and kept" : "Kept as a draft"}${this.app.title ? `: the reply of ${this.called()}` : ""}.`, true);
    } catch (e) {
      this.app.say(e.status === 409 || e.status === 422 ? `Not kept: ${e.message}` : `Not sent yet (${e.message}); it is sent again with the same key when the server answers.`);
    }
  }

  async again() {
    const who = encodeURIComponent(this.app.initials() || "x");
    const [reading, kept] = await Promise.all([
      getJson(`/readings/${this.reading.id}?reader=${who}`), getJson(`/readings/${this.reading.id}/corrections?reader=${who}`)]);
    const now = this.now;
    this.show(reading, kept.versions);
    this.now = now;
    this.draw();
  }
}

function pending() {
  try {
    return JSON.parse(localStorage.getItem(PENDING)) || [];
  } catch {
    return [];
  }
}

// Sends what waits, in order; what the server refuses for good is taken out, so that it stops nothing else.
export async function sendPending() {
  const told = [];
  let refused = null;
  for (const one of pending()) {
    try {
      told.push(await postJson(`/readings/${one.reading}/corrections`, one.body));
    } catch (e) {
      if (![404, 409, 422].includes(e.status)) throw e;
      refused = e;
    }
    localStorage.setItem(PENDING, JSON.stringify(pending().filter((p) => p.body.key !== one.body.key)));
  }
  if (refused) throw refused;
  return told;
}

export function bounds(ring) {
  const xs = ring.map((p) => p[0]), ys = ring.map((p) => p[1]);
  return { x0: Math.min(...xs), y0: Math.min(...ys), x1: Math.max(...xs), y1: Math.max(...ys) };
}
