// The reading room: slides on the left, the viewer, question and reading on the right.

import { getBlob, getJson, Refused, setToken, stream } from "/page/api.js";
import { Layers, length } from "/page/layers.js";
import { openSeadragon } from "/page/osd.js";
import { PlainViewer } from "/page/plain.js";
import { bounds, make, Reading, sendPending } from "/page/reading.js";

const $ = (id) => document.getElementById(id);
const KEYS = [
  ["[ ]", "slide before, next"], ["/", "search slides"], ["q", "question"], ["Ctrl+Enter", "ask"],
  ["j k", "next statement, the one before"], ["e x", "edit, strike the chosen statement"],
  ["+ - 0", "closer, further, whole slide"], ["arrows", "move"], ["b g m", "box, polygon, measure"],
  ["t v", "tissue, evidence"], ["d", "light or dark"], ["Esc", "leave a tool or a field"], ["?", "this list"],
];
const state = { slides: [], slide: null, box: null, stop: null };
let viewer, layers, reading, facts;

function say(text, isInfo = false) {
  $("message").textContent = text;
  $("message").hidden = !text;
  $("message").classList.toggle("info", isInfo);
}

function theme(name) {
  document.documentElement.dataset.theme = name;
  localStorage.setItem("eosin-theme", name);
  $("theme").textContent = name === "dark" ? "Light" : "Dark";
}

async function start() {
  const dark = window.matchMedia("(prefers-color-scheme: dark)").matches;
  theme(localStorage.getItem("eosin-theme") || (dark ? "dark" : "light"));
  try {
    facts = await getJson("/server");
  } catch (e) {
    if (e instanceof Refused && e.status === 401) return door();
    return say(e.message);
  }
  const data = facts.data && facts.data.name ? `, data: ${facts.data.name} (${facts.data.licence || "licence not stated"})` : "";
  $("model").textContent = `${facts.model}${facts.run ? ` of run ${facts.run}` : ""}${data}`;
  $("model").title = $("model").textContent;
  const changed = () => layers && layers.draw();
  viewer = facts.viewer ? await openSeadragon($("viewer"), changed).catch(() => null) : null;
  viewer = viewer || new PlainViewer($("viewer"), changed);
  layers = new Layers(viewer, $("viewer"));
  reading = new Reading({ place: $("reading"), layers, facts, say, flyTo: (box) => viewer.flyTo(box),
    initials: () => localStorage.getItem("eosin-initials") || "", setInitials: (t) => localStorage.setItem("eosin-initials", t) });
  usual();
  listen();
  await list();
  sendPending().catch(() => {});
  return null;
}

function door() {
  $("door").showModal();
  $("door").addEventListener("close", () => {
    setToken($("token").value);
    start();
  }, { once: true });
}

// ---- slides

async function list() {
  const told = await getJson("/slides");
  state.slides = told.slides;
  $("aside").textContent = told.set_aside.length ? `${told.set_aside.length} files set aside` : "";
  drawList();
  const wanted = new URLSearchParams(location.hash.slice(1));
  const first = state.slides.find((s) => s.key === wanted.get("slide")) || state.slides[0];
  if (first) await open(first.key, wanted.get("reading"));
}

function drawList() {
  const wanted = $("search").value.trim().toLowerCase();
  const rows = state.slides.filter((s) => s.name.toLowerCase().includes(wanted)).map((s) => {
    const image = make("img", { class: "thumb", alt: "" });
    const row = make("button", { class: "slide", "data-key": s.key, "aria-current": state.slide && s.key === state.slide.key ? "true" : "false",
      onclick: () => open(s.key) }, image, make("span", { class: "name" }, s.name));
    seen.observe(row);
    return make("li", {}, row);
  });
  $("slide-list").replaceChildren(...rows);
}

const thumbs = new Map();
const seen = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    seen.unobserve(target);
    const key = target.dataset.key, image = target.querySelector("img");
    if (!thumbs.has(key)) thumbs.set(key, getBlob(`/slides/${key}/thumbnail?px=256`).then((b) => URL.createObjectURL(b)));
    thumbs.get(key).then((url) => { image.src = url; }, () => { image.alt = "cannot be read"; });
  }
});

async function open(key, id = null) {
  say("");
  if (state.stop) state.stop.abort();
  let slide;
  try {
    slide = await getJson(`/slides/${key}`);
  } catch (e) {
    return say(e.message);
  }
  state.slide = slide;
  state.box = null;
  $("nothing").hidden = true;
  for (const el of document.querySelectorAll(".slide")) el.setAttribute("aria-current", el.dataset.key === key ? "true" : "false");
  const [w, h] = slide.size_px;
  $("place").textContent = `${w} × ${h} px${slide.mpp ? `, ${length(w * slide.mpp)} × ${length(h * slide.mpp)}` : ""}`;
  viewer.open(slide);
  reading.clear();
  $("slides").classList.remove("shown");
  $("list-button").setAttribute("aria-expanded", "false");
  await layers.open(slide);
  location.hash = `slide=${key}`;
  await earlier(id);
  return null;
}

async function earlier(id) {
  if (!facts.corrects) return;
  const who = localStorage.getItem("eosin-initials");
  const told = await getJson(`/readings?slide=${state.slide.key}${who ? `&reader=${encodeURIComponent(who)}` : ""}`);
  if (!told.readings.length) return $("earlier").replaceChildren();
  const choice = make("select", { "aria-label": "Earlier readings", onchange: () => choice.value && show(choice.value) },
    make("option", { value: "" }, `Earlier readings (${told.readings.length})`),
    ...told.readings.map((r) => make("option", { value: r.id, selected: r.id === id },
      `${new Date(1000 * r.created).toLocaleString()}: ${r.question} ${r.answer || ""}`.slice(0, 90))));
  $("earlier").replaceChildren(choice);
  if (id && told.readings.some((r) => r.id === id)) await show(id);
  return null;
}

async function show(id) {
  const who = encodeURIComponent(localStorage.getItem("eosin-initials") || "x");
  const [found, kept] = await Promise.all([getJson(`/readings/${id}?reader=${who}`), getJson(`/readings/${id}/corrections?reader=${who}`)]);
  reading.show(found, kept.versions);
  location.hash = `slide=${state.slide.key}&reading=${id}`;
}

// ---- asking

function usual() {
  $("usual").replaceChildren(...(facts.questions || []).map((q) => make("button", { type: "button", title: q.options.join(" | "), onclick: () => {
    $("question").value = q.question;
    $("options").value = q.options.join(" | ");
    $("question").focus();
  } }, q.options.length ? `${q.question} (${q.options.length} options)` : q.question)));
  const scopes = [...document.querySelectorAll("input[name=scope]")];
  if (!facts.sees_slides) {
    scopes[0].disabled = true;
    scopes[1].checked = true;
  }
  $("ask").hidden = !facts.asks;
}

function scope() {
  const wanted = document.querySelector("input[name=scope]:checked").value, [w, h] = state.slide.size_px;
  if (wanted === "slide") return null;
  const b = wanted === "view" ? viewer.view() : state.box && bounds(state.box);
  if (!b) throw new Error("Draw a box first (b).");
  const box = [Math.max(0, Math.floor(b.x0)), Math.max(0, Math.floor(b.y0)), Math.min(w, Math.ceil(b.x1)), Math.min(h, Math.ceil(b.y1))];
  if (box[2] <= box[0] || box[3] <= box[1]) throw new Error("This region does not lie on the slide.");
  return box;
}

async function ask() {
  const question = $("question").value.trim();
  if (!state.slide || !question || state.stop) return;
  say("");
  let box;
  try {
    box = scope();
  } catch (e) {
    return say(e.message);
  }
  const options = $("options").value.split("|").map((o) => o.trim()).filter(Boolean), slide = state.slide;
  state.stop = new AbortController();
  $("ask-button").disabled = true;
  $("stop").hidden = false;
  reading.begin();
  try {
    await stream(`/slides/${slide.key}/ask`, { question, options, box }, (name, data) => slide === state.slide && heard(name, data), state.stop.signal);
  } catch (e) {
    say(e.name === "AbortError" ? "Stopped." : `${e.message} The question can be asked again.`, e.name === "AbortError");
  } finally {
    reading.end();
    state.stop = null;
    $("ask-button").disabled = false;
    $("stop").hidden = true;
  }
  return null;
}

function heard(name, data) {
  if (name === "looking") reading.looking(data.text);
  if (name === "text") reading.text(data.block, data.text);
  if (name === "reading") reading.show(data);
  if (name === "evidence") reading.addEvidence(data);
  if (name === "error") say(`${data.message}${data.next_step ? ` ${data.next_step}.` : ""} The question can be asked again.`);
  if (name === "done") {
    location.hash = `slide=${state.slide.key}&reading=${data.id}`;
    earlier(facts.blinded ? data.id : null);
  }
}

// ---- tools and keys

function tool(name) {
  const on = layers.tool !== name;
  const notes = { box: "Draw a box; Esc stops", polygon: "Click the corners; Enter closes, Esc stops", measure: "Draw a line; Esc stops" };
  for (const id of ["box", "polygon", "measure"]) $(id).setAttribute("aria-pressed", String(on && id === name));
  layers.use(on ? name : null, ({ points }) => {
    for (const id of ["box", "polygon", "measure"]) $(id).setAttribute("aria-pressed", "false");
    state.box = points;
    layers.drawn = points;
    layers.draw();
    const mpp = state.slide.mpp, b = bounds(points);
    if (mpp) $("tool-note").textContent = `${length((b.x1 - b.x0) * mpp)} × ${length((b.y1 - b.y0) * mpp)}, ${(area(points) * mpp * mpp / 1e6).toPrecision(3)} mm²`;
    document.querySelector("input[name=scope][value=box]").checked = true;
  }, on ? notes[name] : "");
}

function area(points) {
  return Math.abs(points.reduce((sum, [x, y], i) => {
    const [a, b] = points[(i + 1) % points.length];
    return sum + x * b - a * y;
  }, 0)) / 2;
}

function toggle(id) {
  const on = $(id).getAttribute("aria-pressed") !== "true";
  $(id).setAttribute("aria-pressed", String(on));
  if (id === "tissue") layers.showTissue(on).catch((e) => say(e.message));
  else {
    layers.shown.evidence = on;
    layers.draw();
  }
}

function turn(by) {
  const at = state.slides.findIndex((s) => state.slide && s.key === state.slide.key);
  const next = state.slides[(at + by + state.slides.length) % state.slides.length];
  if (next) open(next.key);
}

function escape() {
  layers.use(null);
  for (const id of ["box", "polygon", "measure"]) $(id).setAttribute("aria-pressed", "false");
  reading.choose(null, false);
  document.activeElement.blur();
}

const BY_KEY = {
  "/": () => $("search").focus(), q: () => $("question").focus(), "[": () => turn(-1), "]": () => turn(1),
  j: () => reading.step(1), k: () => reading.step(-1), e: () => reading.onKey("e"), x: () => reading.onKey("x"),
  "+": () => viewer.zoomBy(1.5), "=": () => viewer.zoomBy(1.5), "-": () => viewer.zoomBy(1 / 1.5), 0: () => viewer.home(),
  ArrowLeft: () => viewer.panBy(-80, 0), ArrowRight: () => viewer.panBy(80, 0), ArrowUp: () => viewer.panBy(0, -80), ArrowDown: () => viewer.panBy(0, 80),
  b: () => tool("box"), g: () => tool("polygon"), m: () => tool("measure"), t: () => toggle("tissue"), v: () => toggle("evidence"),
  d: () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"), "?": () => $("help").showModal(),
  Enter: () => layers.close(),
};

function listen() {
  $("search").addEventListener("input", drawList);
  $("ask").addEventListener("submit", (e) => { e.preventDefault(); ask(); });
  $("stop").addEventListener("click", () => state.stop && state.stop.abort());
  $("theme").addEventListener("click", BY_KEY.d);
  $("help-button").addEventListener("click", BY_KEY["?"]);
  $("keys").replaceChildren(...KEYS.flatMap(([k, t]) => [make("dt", {}, k), make("dd", {}, t)]));
  $("home").addEventListener("click", () => viewer.home());
  $("in").addEventListener("click", () => viewer.zoomBy(1.5));
  $("out").addEventListener("click", () => viewer.zoomBy(1 / 1.5));
  for (const id of ["box", "polygon", "measure"]) $(id).addEventListener("click", () => tool(id));
  for (const id of ["tissue", "evidence"]) $(id).addEventListener("click", () => toggle(id));
  $("opacity").addEventListener("input", () => { layers.opacity = $("opacity").value / 100; layers.draw(); });
  $("list-button").addEventListener("click", () => {
    const shown = $("slides").classList.toggle("shown");
    $("list-button").setAttribute("aria-expanded", String(shown));
  });
  document.addEventListener("keydown", (e) => {
    if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) return ask();
    if (e.key === "Escape" && !document.querySelector("dialog[open]")) return escape();
    const field = e.target.closest("input, textarea, select, dialog, summary");
    if (field || e.ctrlKey || e.metaKey || e.altKey || (e.key === "Enter" && e.target.closest("button"))) return null;
    const act = BY_KEY[e.key];
    if (act) {
      e.preventDefault();
      act();
    }
    return null;
  });
}

start();
