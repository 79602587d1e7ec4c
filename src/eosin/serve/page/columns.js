// The columns of readings: one for each model that is asked. One of them has the slide's overlay and the keys.

import { make } from "/page/make.js";
import { Reading } from "/page/reading.js";

export class Columns {
  // shared: what every reading is given, but for its place, its model and its number
  constructor(place, models, shared) {
    this.number = 0;
    this.all = [];
    models.forEach((model, number) => {
      const own = make("section", { id: number ? `reading-${number + 1}` : "reading", class: "reading", "aria-live": "polite",
        "aria-busy": "false", "aria-label": `Reading by ${model.name}` });
      place.append(own);
      this.all.push(new Reading({ ...shared, place: own, model, number, title: models.length > 1,
        renamed: (column) => this.renamed(column), active: () => this.number === number, activate: () => this.activate(number) }));
    });
    place.classList.toggle("two", models.length > 1);
    this.turn();
  }

  get now() { return this.all[this.number]; }

  activate(number) {
    if (number === this.number || !this.all[number]) return;
    this.number = number;
    this.turn();
  }

  // Whether what the columns hold, or wait for, is also about this slide.
  about(key) { return this.all.some((c) => c.keys().length > 1 && c.keys().includes(key)); }

  // Of a blinded study: a signature may have given the other replies of the question their names too.
  async renamed(column) { await Promise.all(this.all.filter((c) => c !== column && c.reading).map((c) => c.rename())); }

  turn() { for (const column of this.all) column.turned(); }
  clear() { for (const column of this.all) column.clear(); }

  // The columns of some readings, the first of which keeps its own in any case.
  places(readings) {
    const free = [...this.all];
    return readings.map((r) => {
      const at = free.findIndex((c) => c.app.model.name === (r.label || r.model)), found = free.splice(at < 0 ? 0 : at, 1);
      return found[0] || null;
    });
  }
}
