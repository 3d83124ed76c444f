// The map of outcomes, start x learning rate, computed in the page for the current optimizer.
//
// Coarse first, then finer, in slices of some milliseconds, so that the page stays responsive. Runs use
// the tabulated gradient and are classified by the same code as the single run.

(function (gabordiag) {
  "use strict";

  // Shorter than a frame of the screen.
  const SLICE_MS = 14;
  const STRIDES = [8, 4, 2, 1];

  // The grid: starts over the whole range, rates evenly spaced in the logarithm, ends included.
  gabordiag.mapGrid = function (landscape, rates, columns = 181, rows = 121) {
    const { low, high } = landscape;
    return {
      columns,
      rows,
      starts: Float64Array.from({ length: columns }, (_, i) => low + ((high - low) * i) / (columns - 1)),
      lrs: Float64Array.from({ length: rows }, (_, i) => rates.low * (rates.high / rates.low) ** (i / (rows - 1))),
    };
  };

  // Returns the outcome of one run, and its least and largest value (NaN if the run breaks off).
  gabordiag.runCell = function (rules, objective, gradient, settings, start, lr) {
    const { steps } = settings;
    const tail = gabordiag.tailLength(rules, steps), kept = new Float64Array(tail);
    const optimizer = gabordiag.makeOptimizer(settings, lr);
    const first = steps - tail + 1;
    let value = start, slope = gradient(value), least = start, most = start;
    const moved = slope !== 0;
    for (let step = 1; step <= steps; step++) {
      value = optimizer.step(value, slope);
      slope = gradient(value);
      if (step >= first) kept[step - first] = value;
      if (value < least) least = value;
      if (value > most) most = value;
      if (value !== value) return { outcome: "nonfinite", least: NaN, most: NaN };
    }
    const { outcome } = gabordiag.classify(rules, objective.landscape, {
      values: kept,
      lossAt: (index) => objective.loss(kept[index]),
      lastGradient: slope,
      moved,
      isInside: true,
    });
    return { outcome, least, most };
  };

  // Fills the map in the background. Calls show(codes, share done) after every slice; returns a
  // function that stops it.
  gabordiag.fillMap = function (rules, objective, settings, grid, codeOf, show) {
    const gradient = objective.quickGradient();
    const codes = new Int8Array(grid.columns * grid.rows).fill(-1);
    const cells = coarseToFine(grid);
    let next = 0, done = 0, stopped = false;

    function slice() {
      if (stopped) return;
      const until = performance.now() + SLICE_MS;
      do {
        if (next >= cells.length) break;
        const { row, column, size } = cells[next++];
        const { outcome } = gabordiag.runCell(rules, objective, gradient, settings, grid.starts[column], grid.lrs[row]);
        paint(codes, grid, row, column, size, codeOf(outcome));
        done++;
      } while (performance.now() < until);
      show(codes, done / cells.length);
      if (next < cells.length) setTimeout(slice, 0);
    }

    setTimeout(slice, 0);
    return () => (stopped = true);
  };

  // Every cell once, those of the coarsest grid first.
  function coarseToFine({ columns, rows }) {
    const order = [];
    STRIDES.forEach((size, level) => {
      const before = level === 0 ? 0 : STRIDES[level - 1];
      for (let row = 0; row < rows; row += size) {
        for (let column = 0; column < columns; column += size) {
          const known = before > 0 && row % before === 0 && column % before === 0;
          if (!known) order.push({ row, column, size });
        }
      }
    });
    return order;
  }

  // A cell stands for its block until finer ones are known.
  function paint(codes, { columns, rows }, row, column, size, code) {
    for (let r = row; r < Math.min(rows, row + size); r++) {
      for (let c = column; c < Math.min(columns, column + size); c++) codes[r * columns + c] = code;
    }
  }
})((globalThis.gabordiag ??= {}));
