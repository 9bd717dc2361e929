// The page's one selection: what charts and tables show together. Null means all.
window.actsweep ??= {};
actsweep.selection ??= { groups: null, seeds: null, layers: null, epochs: null, runs: null };
actsweep.select ??= (partial) => {
  Object.assign(actsweep.selection, partial);
  document.dispatchEvent(new CustomEvent("actsweep:select", { detail: { ...actsweep.selection } }));
};
