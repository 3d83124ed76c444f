// Which learning rates work from a start: gabordiag/dynamics/windows.py, computed for any settings.

(function (gabordiag) {
  "use strict";

  const polynomial = (coefficients, x) => coefficients.reduceRight((sum, c) => sum * x + c, 0);

  // The largest stable rate at a minimum or kink as {lr, symbol}, null where theory has none.
  // optimizer: its entry of the page's `optimizers`, whose bound is a multiple of plain descent's.
  gabordiag.stabilityBound = function (optimizer, point, momentum) {
    const { bound } = optimizer, beta = optimizer.takes_momentum ? momentum : 0;
    if (point === null || bound === null || point.bound === null) return null;
    if (point.slope !== null) return beta > 0 ? null : point.bound;
    const factor = polynomial(bound.numerator, beta) / polynomial(bound.denominator, beta);
    return { lr: point.bound.lr * factor, symbol: bound.symbol };
  };

  // Scans and trials on one objective with one optimizer; what does not depend on the start is kept.
  class Bench {
    constructor(rules, objective, settings) {
      const { low, high, count } = objective.scans[settings.optimizer];
      Object.assign(this, { rules, objective, settings, landscape: objective.landscape });
      this.gradient = objective.quickGradient();
      this.lrs = Float64Array.from({ length: count }, (_, i) => low * (high / low) ** (i / (count - 1)));
      this.scanned = new Map();
    }

    run(start, lr, steps = this.settings.steps) {
      const settings = { ...this.settings, steps };
      return gabordiag.runCell(this.rules, this.objective, this.gradient, settings, start, lr);
    }

    reaches(start, lr, steps) {
      return this.run(start, lr, steps).outcome === "reached";
    }

    // Whether runs reach the target from a start and from a hair beside it; one alone may be luck.
    confirmed(start, lr, steps) {
      const nudge = 1e-6 * this.landscape.tolerance;
      return [start, start + nudge, start - nudge].every((value) => this.reaches(value, lr, steps));
    }

    // Whether a run left the basin of the point that holds its start.
    left(point, start, { least, most }) {
      const basin = point === null ? null : this.landscape.basinAround(point, start);
      return basin === null ? point !== null : !(least >= basin[0] && most <= basin[1]);
    }

    // Whether the target's basin keeps the runs beside the target, and they reach it.
    holds(lr) {
      const { beside } = this.objective, { goalPoint } = this.landscape;
      return beside.every((start) => {
        const run = this.run(start, lr, this.rules.scan_steps);
        return run.outcome === "reached" && !this.left(goalPoint, start, run);
      });
    }

    // The largest scanned rate up to which the target's basin is stable, or null.
    get hold() {
      if (this.kept === undefined) {
        this.kept = null;
        if (this.objective.beside.length > 0) {
          for (const lr of this.lrs) {
            const held = this.holds(lr);
            if (!held && this.kept !== null) break;
            if (held) this.kept = lr;
          }
        }
      }
      return this.kept;
    }

    // {working: intervals of rates that reach the target, escape: the smallest that leaves the basin}.
    windows(start) {
      if (!this.scanned.has(start)) {
        const own = this.landscape.attractorOf(start), working = [];
        let escape = null, before = false;
        for (const lr of this.lrs) {
          const run = this.run(start, lr, this.rules.scan_steps), reached = run.outcome === "reached";
          if (reached && before) working[working.length - 1][1] = lr;
          else if (reached) working.push([lr, lr]);
          before = reached;
          if (escape === null && own !== this.landscape.goalPoint && this.left(own, start, run)) escape = lr;
        }
        this.scanned.clear();
        this.scanned.set(start, { working, escape });
      }
      return this.scanned.get(start);
    }

    // A rate and a number of steps that reach the target from a start, as {lr, steps}, or null.
    tuned(start, isInside, { above = 0, below = Infinity, moreSteps = true } = {}) {
      const { working } = this.windows(start), { hold } = this, { steps } = this.settings;
      if (hold === null || (working.length === 0 && !isInside)) return null;
      const rates = [...working].sort((a, b) => a[0] / a[1] - b[0] / b[1]).flatMap(([low, high]) => {
        const top = Math.min(high, hold);
        return [top / 2, Math.sqrt(low * top), 0.95 * top].filter((lr) => lr >= low && lr <= top);
      });
      const tried = [...rates, 0.95 * hold, hold / 2].map(roundDown).filter((lr) => lr > above && lr < below);
      const scanned = this.rules.scan_steps;
      const counts = moreSteps ? [steps, Math.max(steps, scanned), Math.max(steps, 4 * scanned)] : [steps];
      for (const count of new Set(counts)) {
        for (const lr of new Set(tried)) if (this.confirmed(start, lr, count)) return { lr, steps: count };
      }
      return null;
    }
  }

  // Cut to two significant digits.
  function roundDown(value) {
    const unit = 10 ** (Math.floor(Math.log10(value)) - 1);
    return Number((Math.floor(value / unit + 1e-9) * unit).toPrecision(12));
  }

  gabordiag.Bench = Bench;
})((globalThis.gabordiag ??= {}));
