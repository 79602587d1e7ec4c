// Of a blinded study: what the model said, beside what the reader wrote before having seen it.

import { make } from "/page/make.js";

export function revealed(reading, whose) {
  const rows = reading.statements.map((s) => make("li", {}, `${s.text} `, s.verdict ? make("span", { class: `tag ${s.verdict}` }, s.verdict) : null));
  return make("section", { class: "revealed", "aria-label": `What the model said${whose}` },
    make("h2", {}, "What the model said"), make("ul", {}, ...rows), make("p", {}, `Answer: ${reading.answer || "(none)"}`));
}
