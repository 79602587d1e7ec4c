// The slides of one case: grouped in the list, side by side above the viewer, asked about together or one by one.

import { make } from "/page/make.js";

// The slides of a slide's case, itself among them; a slide of no case alone.
export function caseOf(slides, slide) {
  return slide && slide.case ? slides.filter((s) => s.case === slide.case) : slides.filter((s) => slide && s.key === slide.key);
}

// The list in the order in which it is shown: slides of one case stand together, where its first one stands.
export function inOrder(slides) {
  const seen = new Set();
  return slides.flatMap((s) => {
    if (seen.has(s.key)) return [];
    const own = caseOf(slides, s);
    own.forEach((o) => seen.add(o.key));
    return own;
  });
}

// A heading above the first slide of a case of several.
export function heading(slides, slide) {
  const own = caseOf(slides, slide);
  return own.length > 1 && own[0].key === slide.key ? make("li", { class: "case-name" }, `Case ${slide.case}, ${own.length} slides`) : null;
}

// The tabs above the viewer. said: answers by slide, of a question that was put slide by slide.
export function drawTabs(place, slides, slide, said, open) {
  const own = caseOf(slides, slide);
  place.hidden = own.length < 2;
  if (place.hidden) return place.replaceChildren();
  return place.replaceChildren(make("span", { class: "dim" }, `Case ${slide.case}`), ...own.map((s) => make("button", {
    class: "tab", "data-key": s.key, "aria-current": s.key === slide.key ? "true" : "false", onclick: () => open(s.key),
  }, said[s.key] ? `${s.name}: ${said[s.key]}` : s.name)));
}

// Whether all models read so many slides at a time, and what the page says of it.
export function howAsked(models, num) {
  const few = models.filter((m) => (m.max_slides || 1) < num);
  if (!few.length) return { together: true, note: `All ${num} slides of the case are shown in one question.` };
  const who = few.map((m) => `${m.name} reads ${m.max_slides > 1 ? `${m.max_slides} slides` : "one slide"} at a time`).join("; ");
  return { together: false, note: `${who}: the question is put slide by slide, and each slide has its own reply.` };
}
