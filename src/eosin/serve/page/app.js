// The reading room: slides on the left, the viewer, question and reading on the right.

import { getBlob, getJson, newKey, Refused, setToken, stream } from "/page/api.js";
import { caseOf, drawTabs, heading, howAsked, inOrder } from "/page/cases.js";
import { Columns } from "/page/columns.js";
import { Layers, length } from "/page/layers.js";
import { openSeadragon } from "/page/osd.js";
import { PlainViewer } from "/page/plain.js";
import { make } from "/page/make.js";
import { bounds, sendPending } from "/page/reading.js";

const $ = (id) => document.getElementById(id);
const KEYS = [
  ["[ ]", "slide before, next"], [", .", "slide of the same case before, next"], ["/", "search slides"], ["q", "question"], ["Ctrl+Enter", "ask"],
  ["j k", "next statement, the one before"], ["e x", "edit, strike the chosen statement"],
  ["+ - 0", "closer, further, whole slide"], ["arrows", "move"], ["b g m", "box, polygon, measure"],
  ["t v", "tissue, evidence"], ["1 2", "the column of the first, the second model"], ["d", "light or dark"], ["Esc", "leave a tool or a field"], ["?", "this list"],
];
const state = { slides: [], slide: null, coming: null, box: null, stop: null, readings: [], asked: null, said: {} };
let viewer, layers, columns, facts;

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
  const servers = facts.models.filter((m) => m.about && m.about.server).map((m) => `; ${m.name} is asked at ${m.about.server}, and what it is shown is sent there`);
  servers.push(...(facts.sent_to || []).map((address) => `; what is shown is sent to ${address}`));
  $("model").textContent = `${facts.models.map((m) => m.name).join(" beside ")}${facts.run ? ` of run ${facts.run}` : ""}${data}${servers.join("")}`;
  $("model").title = $("model").textContent;
  document.body.classList.toggle("beside", facts.models.length > 1);
  const changed = () => layers && layers.draw();
  viewer = facts.viewer ? await openSeadragon($("viewer"), changed).catch(() => null) : null;
  viewer = viewer || new PlainViewer($("viewer"), changed);
  layers = new Layers(viewer, $("viewer"));
  columns = new Columns($("readings"), facts.models, { layers, facts, say, flyTo,
    initials: () => localStorage.getItem("eosin-initials") || "", setInitials });
  usual();
  listen();
  await list();
  sendPending().catch(() => {});
  return null;
}

// Flies to a box; of another slide of the case after that one was opened.
async function flyTo(box, key) {
  if (key && key !== state.slide.key) await open(key);
  viewer.flyTo(box);
}

function setInitials(text) {
  localStorage.setItem("eosin-initials", text);
  for (const field of document.querySelectorAll("input.initials")) field.value = text;
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
  state.slides = inOrder(told.slides);
  $("aside").textContent = told.set_aside.length ? `${told.set_aside.length} files set aside` : "";
  drawList();
  const wanted = new URLSearchParams(location.hash.slice(1));
  const first = state.slides.find((s) => s.key === wanted.get("slide")) || state.slides[0];
  if (first) await open(first.key, wanted.get("reading"));
}

function drawList() {
  const wanted = $("search").value.trim().toLowerCase();
  const rows = state.slides.filter((s) => `${s.name} ${s.case || ""}`.toLowerCase().includes(wanted)).flatMap((s) => {
    const image = make("img", { class: "thumb", alt: "" });
    const row = make("button", { class: "slide", "data-key": s.key, "aria-current": state.slide && s.key === state.slide.key ? "true" : "false",
      onclick: () => open(s.key) }, image, make("span", { class: "name" }, s.name));
    seen.observe(row);
    return [heading(state.slides, s), make("li", {}, row)].filter(Boolean);
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

// Opens a slide, unless another one is chosen before this one has come.
async function open(key, id = null) {
  say("");
  const stays = state.moving || columns.about(key), coming = getJson(`/slides/${key}`);
  if (state.stop && !stays) state.stop.abort();
  state.coming = coming;
  let slide;
  try {
    slide = await coming;
  } catch (e) {
    return state.coming === coming ? say(e.message) : null;
  }
  if (state.coming !== coming) return null;
  state.slide = slide;
  state.box = null;
  $("nothing").hidden = true;
  for (const el of document.querySelectorAll(".slide")) el.setAttribute("aria-current", el.dataset.key === key ? "true" : "false");
  const [w, h] = slide.size_px;
  $("place").textContent = `${w} × ${h} px${slide.mpp ? `, ${length(w * slide.mpp)} × ${length(h * slide.mpp)}` : ""}`;
  viewer.open(slide);
  if (!stays) columns.clear();
  drawTabs($("case"), state.slides, slide, state.said, open);
  drawScope();
  $("slides").classList.remove("shown");
  $("list-button").setAttribute("aria-expanded", "false");
  if (!stays) location.hash = `slide=${key}`;
  await layers.open(slide);
  if (state.slide !== slide) return null;
  if (stays) columns.turn();
  else await earlier(id);
  return null;
}

async function earlier(id) {
  if (!facts.corrects) return;
  const who = localStorage.getItem("eosin-initials"), slide = state.slide;
  const lists = await Promise.all(caseOf(state.slides, slide).map((s) => getJson(`/readings?slide=${s.key}${who ? `&reader=${encodeURIComponent(who)}` : ""}`)));
  const isHere = (r) => r.slide === slide.key || (r.slides || []).some((s) => s.key === slide.key);
  const all = lists.flatMap((l) => l.readings).filter(isHere).sort((a, b) => b.created - a.created);
  if (slide !== state.slide) return null;
  state.readings = all;
  if (!id && state.asked) id = (all.find((r) => r.asked === state.asked) || {}).id;
  const first = all.filter((r, i) => !r.asked || all.findIndex((o) => o.asked === r.asked) === i);
  if (!first.length) return $("earlier").replaceChildren();
  const choice = make("select", { "aria-label": "Earlier readings", onchange: () => choice.value && show(choice.value) },
    make("option", { value: "" }, `Earlier readings (${first.length})`),
    ...first.map((r) => make("option", { value: r.id, selected: together(r).some((o) => o.id === id) },
      `${new Date(1000 * r.created).toLocaleString()}: ${r.question} ${together(r).map((o) => o.answer || "").join(" / ")}`.slice(0, 90))));
  $("earlier").replaceChildren(choice);
  if (id && !state.stop && all.some((r) => r.id === id)) await show(id);
  return null;
}

// A reading, and those of other models that answer the same question.
function together(reading) {
  return [reading, ...state.readings.filter((o) => o.asked && o.asked === reading.asked && o.id !== reading.id)];
}

async function show(id) {
  const who = encodeURIComponent(localStorage.getItem("eosin-initials") || "x"), slide = state.slide;
  const rows = together(state.readings.find((r) => r.id === id)), places = columns.places(rows);
  columns.clear();
  await Promise.all(rows.map(async (row, i) => {
    if (!places[i]) return;
    const [found, kept] = await Promise.all([getJson(`/readings/${row.id}?reader=${who}`), getJson(`/readings/${row.id}/corrections?reader=${who}`)]);
    if (slide === state.slide && !state.stop) places[i].show(found, kept.versions);
  }));
  if (slide === state.slide && !state.stop) location.hash = `slide=${slide.key}&reading=${id}`;
}

// ---- asking

function usual() {
  $("usual").replaceChildren(...(facts.questions || []).map((q) => make("button", { type: "button", title: q.options.join(" | "), onclick: () => {
    $("question").value = q.question;
    $("options").value = q.options.join(" | ");
    $("question").focus();
  } }, q.options.length ? `${q.question} (${q.options.length} options)` : q.question)));
  const scopes = [...document.querySelectorAll("input[name=scope]")];
  if (!facts.models.some((m) => m.sees_slides)) {
    scopes[0].disabled = true;
    scopes[1].checked = true;
  }
  $("ask").hidden = !facts.asks;
}

const chosenScope = () => document.querySelector("input[name=scope]:checked").value;

// What a question may be about, and how a case would be asked.
function drawScope() {
  const num = caseOf(state.slides, state.slide).length, canCase = num > 1 && facts.models.some((m) => m.sees_slides);
  $("case-scope").hidden = !canCase;
  if (!canCase && chosenScope() === "case") document.querySelector("input[name=scope][value=slide]").checked = true;
  $("scope-note").hidden = chosenScope() !== "case";
  $("scope-note").textContent = canCase ? howAsked(facts.models, num).note : "";
}

function scope() {
  const wanted = chosenScope(), [w, h] = state.slide.size_px;
  if (wanted === "slide" || wanted === "case") return null;
  const b = wanted === "view" ? viewer.view() : state.box && bounds(state.box);
  if (!b) throw new Error("Draw a box first (b).");
  const box = [Math.max(0, Math.floor(b.x0)), Math.max(0, Math.floor(b.y0)), Math.min(w, Math.ceil(b.x1)), Math.min(h, Math.ceil(b.y1))];
  if (box[2] <= box[0] || box[3] <= box[1]) throw new Error("This region does not lie on the slide.");
  return box;
}

async function ask() {
  const question = $("question").value.trim();
  await Promise.resolve(state.coming).catch(() => null); // the slide that was chosen last, not the one before it
  if (!state.slide || !question || state.stop) return;
  say("");
  let box;
  try {
    box = scope();
  } catch (e) {
    return say(e.message);
  }
  const options = $("options").value.split("|").map((o) => o.trim()).filter(Boolean);
  const own = chosenScope() === "case" ? caseOf(state.slides, state.slide) : [state.slide];
  state.stop = new AbortController();
  $("ask-button").disabled = true;
  $("stop").hidden = false;
  const body = { question, options, box, asked: newKey() };
  state.asked = null;
  state.said = {};
  const last = howAsked(facts.models, own.length).together ? await putAll(own, body) : await putEach(own, body);
  state.stop = null;
  $("ask-button").disabled = false;
  $("stop").hidden = true;
  drawTabs($("case"), state.slides, state.slide, state.said, open);
  if (last) {
    location.hash = `slide=${state.slide.key}&reading=${last}`;
    await earlier(facts.blinded ? last : null).catch((e) => say(e.message));
  }
  return null;
}

// One question about all these slides to every model; the id of the first reading that was kept.
async function putAll(slides, body) {
  const more = slides.length > 1 ? { slides: slides.slice(1).map((s) => s.key) } : {};
  const done = await Promise.all(columns.all.map((column) => put(column, slides, { ...body, ...more }, state.stop.signal)));
  return done.find((d) => d);
}

// The same question about one slide after the other; the page goes along.
async function putEach(slides, body) {
  let last = null;
  state.asked = body.asked;
  for (const slide of slides) {
    if (state.stop.signal.aborted) break;
    state.moving = true;
    await open(slide.key);
    state.moving = false;
    last = (await putAll([slide], body)) || last;
    state.said[slide.key] = columns.all.map((c) => (c.reading && (c.reading.answer || "no answer")) || "no reply").join(" / ");
    drawTabs($("case"), state.slides, state.slide, state.said, open);
  }
  return last;
}

// One question to the model of a column; the id of the reading that was kept, or null.
async function put(column, slides, body, signal) {
  let id = null;
  column.begin(slides.map((s) => s.key));
  try {
    await stream(`/slides/${slides[0].key}/ask`, { ...body, model: column.app.model.name }, (name, data) => {
      if (slides.some((s) => s.key === state.slide.key)) heard(column, name, data);
      if (name === "done") id = data.id;
    }, signal);
  } catch (e) {
    if (e.name === "AbortError") say("Stopped.", true);
    else column.failed(`${e.message} The question can be asked again.`);
  }
  column.end();
  return id;
}

function heard(column, name, data) {
  if (name === "looking") column.looking(data.text);
  if (name === "text") column.text(data.block, data.text);
  if (name === "reading") column.show(data);
  if (name === "evidence") column.addEvidence(data);
  if (name === "error") column.failed(`${data.message}${data.next_step ? ` ${data.next_step}.` : ""} The question can be asked again.`);
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

function turn(by, slides = state.slides) {
  const at = slides.findIndex((s) => state.slide && s.key === state.slide.key);
  const next = slides[(at + by + slides.length) % slides.length];
  if (next && next.key !== (state.slide || {}).key) open(next.key);
}

function escape() {
  layers.use(null);
  for (const id of ["box", "polygon", "measure"]) $(id).setAttribute("aria-pressed", "false");
  columns.now.choose(null, false);
  document.activeElement.blur();
}

const BY_KEY = {
  "/": () => $("search").focus(), q: () => $("question").focus(), "[": () => turn(-1), "]": () => turn(1),
  ",": () => turn(-1, caseOf(state.slides, state.slide)), ".": () => turn(1, caseOf(state.slides, state.slide)),
  j: () => columns.now.step(1), k: () => columns.now.step(-1), e: () => columns.now.onKey("e"), x: () => columns.now.onKey("x"),
  1: () => columns.activate(0), 2: () => columns.activate(1),
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
  for (const el of document.querySelectorAll("input[name=scope]")) el.addEventListener("change", drawScope);
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
