// One selection for all figures and the table of runs; null: all of them.
// Listen to the document's event "actsweep:select", whose detail is the whole selection.
window.actsweep = {
  selection: { groups: null, seeds: null, layers: null, epochs: null, runs: null },
  select(partial) {
    for (const key of Object.keys(partial))
      if (!(key in this.selection)) throw new Error(`select: no ${key} in a selection`);
    Object.assign(this.selection, partial);
    document.dispatchEvent(new CustomEvent("actsweep:select", { detail: this.selection }));
  },
};
