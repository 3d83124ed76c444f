// Fills the Bokeh figures: landscape, run and map.

(function (gabordiag) {
  "use strict";

  const { ndarray } = Bokeh.require("core/util/ndarray");
  // Points of a curve; number of last moves drawn; most steps that are drawn large.
  const CURVE_POINTS = 721;
  const SHOWN_MOVES = 10;
  const FEW_STEPS = 150;
  const LIGHT = { ground: "#ffffff", ink: "#222222", faint: "#444444", grid: "#e4e4e4", start: "#0072B2", target: "#00694D" };
  const DARK = { ground: "#17181a", ink: "#ececea", faint: "#c4c6c9", grid: "#34373b", start: "#58aef0", target: "#3ecf9f" };

  // The ends of an axis on which values from low to high are seen whole.
  function withMargins(low, high) {
    const height = high - low || 1;
    return [low - 0.05 * height, high + 0.08 * height];
  }

  class Plots {
    constructor() {
      this.models = new Map();
    }

    // The figure, source or line of a name.
    model(name) {
      if (!this.models.has(name)) {
        const found = Bokeh.documents.map((root) => root.get_model_by_name(name)).find((model) => model !== null);
        this.models.set(name, found);
      }
      return this.models.get(name);
    }

    fill(name, columns) {
      this.model(name).data = columns;
    }

    // Draws what depends on the loss alone.
    drawLandscape(objective) {
      const { landscape } = objective;
      this.landscape = landscape;
      const x = [], y = [], slopes = [];
      for (let i = 0; i < CURVE_POINTS; i++) {
        const value = landscape.low + ((landscape.high - landscape.low) * i) / (CURVE_POINTS - 1);
        const [loss, slope] = objective.at(value);
        x.push(value * landscape.scale);
        y.push(loss);
        // A gap where the slope jumps, at a kink.
        const jumps = slopes.length > 0 && Math.abs(slope / landscape.scale - slopes[slopes.length - 1]) > landscape.largestGradient / landscape.scale;
        slopes.push(jumps ? NaN : slope / landscape.scale);
      }
      this.fill("curve", { x, y });
      this.fill("slope-curve", { x, y: slopes });
      for (const kind of ["minimum", "maximum", "kink", "inflection"]) {
        const points = landscape.points.filter((point) => point.kind === kind);
        this.fill(`points-${kind}`, { x: points.map((p) => p.value * landscape.scale), y: points.map((p) => p.loss) });
      }
      const steepest = landscape.largestGradient / landscape.scale;
      this.frame("landscape", ...withMargins(landscape.smallestLoss, landscape.largestLoss));
      this.frame("slope", -1.1 * steepest, 1.1 * steepest);
      const values = this.model("values");
      const pad = (landscape.high - landscape.low) * landscape.scale * 0.03;
      values.y_range.start = landscape.low * landscape.scale - pad;
      values.y_range.end = landscape.high * landscape.scale + pad;
      this.ticks(values.left[0]);
      this.drawBasin();
    }

    // Sets the ranges of a plot over the whole parameter.
    frame(name, low, high) {
      const plot = this.model(name), { landscape } = this;
      plot.x_range.start = landscape.low * landscape.scale;
      plot.x_range.end = landscape.high * landscape.scale;
      plot.y_range.start = low;
      plot.y_range.end = high;
      this.ticks(plot.below[0]);
    }

    // Ticks of degrees at multiples of 30 or 45, not of 20.
    ticks(axis) {
      const { landscape } = this;
      if (!landscape.isAngle) return;
      const width = (landscape.high - landscape.low) * landscape.scale;
      axis.ticker.desired_num_ticks = 7;
      axis.ticker.mantissas = width > 200 ? [1.8, 3.6, 4.5, 9] : [1.5, 3, 4.5, 9];
      axis.ticker.num_minor_ticks = 3;
    }

    drawBasin() {
      const { landscape } = this, goal = landscape.goalPoint;
      const pieces = goal === null || goal.basin === null ? [] : this.folded(goal.basin);
      for (const name of ["landscape", "slope"]) {
        ["a", "b"].forEach((part, index) => {
          const band = this.model(`${name}-basin-${part}`), piece = pieces[index];
          band.visible = piece !== undefined;
          if (piece !== undefined) [band.left, band.right] = piece.map((v) => v * landscape.scale);
        });
      }
      for (const name of ["landscape-target", "slope-target", "values-target", "map-target"]) {
        const line = this.model(name);
        line.visible = landscape.goal !== null;
        if (landscape.goal !== null) line.location = landscape.wrap(landscape.goal) * landscape.scale;
      }
    }

    // An interval as the pieces of it that lie in the range, whole periods taken off.
    folded([low, high]) {
      const { landscape } = this;
      if (landscape.period === null) return [[low, high]];
      return [-1, 0, 1]
        .map((turn) => [low + turn * landscape.period, high + turn * landscape.period])
        .map(([a, b]) => [Math.max(a, landscape.low), Math.min(b, landscape.high)])
        .filter(([a, b]) => b > a);
    }

    // Draws what depends on the whole run.
    drawRun(run, judged) {
      const { landscape } = this, { settings } = run;
      this.run = run;
      const folded = Array.from(run.values, (value) => landscape.wrap(value) * landscape.scale);
      this.folds = folded;
      this.slopes = Array.from(run.gradients, (gradient) => gradient / landscape.scale);
      const losses = Array.from(run.losses), steps = losses.map((_, step) => step);
      this.fill("losses-dots", { x: steps, y: losses });
      this.fill("values-dots", { x: steps, y: folded });
      const end = this.interesting(judged);
      for (const name of ["losses", "values"]) {
        this.model(name).x_range.start = -0.02 * end;
        this.model(name).x_range.end = 1.02 * end;
      }
      const finite = losses.filter(Number.isFinite), { y_range: height } = this.model("losses");
      const ends = [Math.min, Math.max].map((better) => finite.reduce((a, b) => better(a, b), finite[0] ?? 0));
      [height.start, height.end] = withMargins(...ends);
      this.thin(end);
      const start = landscape.wrap(settings.start) * landscape.scale;
      for (const name of ["landscape-start", "slope-start", "values-start"]) this.model(name).location = start;
      for (const width of ["5", "2"]) {
        this.fill(`map-cross-${width}`, { x: [start], y: [settings.lr] });
      }
    }

    // The last step shown at first: of a run that has settled, a little after it did.
    interesting(judged) {
      const { landscape, run } = this, count = run.values.length;
      if (!["reached", "local_minimum", "plateau"].includes(judged.outcome)) return Math.max(1, run.settings.steps);
      let since = count - 1;
      while (since > 0 && Math.abs(run.values[since - 1] - run.values[count - 1]) <= landscape.tolerance) since--;
      return Math.min(Math.max(1, count - 1), Math.max(20, 3 * since));
    }

    // Few steps are dots; many are a thin line, behind which nothing is hidden.
    thin(count) {
      const few = count <= FEW_STEPS;
      for (const name of ["landscape", "slope", "losses", "values"]) {
        const { glyph } = this.model(`dots-${name}`), steps = name === "losses" || name === "values";
        glyph.size = few ? 6 : 4;
        glyph.fill_alpha = few ? 0.85 : steps ? 0 : 0.3;
      }
      for (const name of ["losses", "values"]) this.model(`line-${name}`).glyph.line_alpha = few ? 0.8 : 0.45;
    }

    // Where the run was up to one step, its last moves, where it is.
    showStep(step) {
      const { run, folds, slopes } = this, { losses } = run;
      this.fill("visited", { x: folds.slice(0, step + 1), y: Array.from(losses.subarray(0, step + 1)) });
      this.fill("slope-visited", { x: folds.slice(0, step + 1), y: slopes.slice(0, step + 1) });
      this.fill("here", { x: [folds[step]], y: [losses[step]] });
      this.fill("slope-here", { x: [folds[step]], y: [slopes[step]] });
      this.fill("moves", this.moves(step));
      const steps = Array.from({ length: Math.min(step, SHOWN_MOVES) + 1 }, (_, age) => step - age);
      this.fill("losses-last", { x: steps, y: steps.map((t) => losses[t]) });
      this.fill("values-last", { x: steps, y: steps.map((t) => folds[t]) });
      this.model("losses-shown").location = step;
      this.model("values-shown").location = step;
    }

    // The last moves as segments; a short one across the period's end is drawn on both sides of it.
    moves(step) {
      const { landscape, run, folds } = this;
      const columns = { x0: [], y0: [], x1: [], y1: [], alpha: [] };
      for (const [age, t] of this.seenMoves(step).entries()) {
        const length = (run.values[t + 1] - run.values[t]) * landscape.scale;
        const width = (landscape.high - landscape.low) * landscape.scale;
        const crosses = Math.abs(length) < width / 2 && Math.abs(folds[t] + length - folds[t + 1]) > width / 2;
        const pieces = crosses
          ? [[folds[t], folds[t] + length], [folds[t + 1] - length, folds[t + 1]]]
          : [[folds[t], folds[t + 1]]];
        for (const [from, to] of pieces) {
          columns.x0.push(from);
          columns.x1.push(to);
          columns.y0.push(run.losses[t]);
          columns.y1.push(run.losses[t + 1]);
          columns.alpha.push(0.85 * 0.78 ** age);
        }
      }
      return columns;
    }

    // Steps at which the last moves began that are long enough to be seen, newest first.
    seenMoves(step) {
      const { values } = this.run, found = [];
      for (let t = step - 1; t >= 0 && found.length < SHOWN_MOVES; t--) {
        if (Math.abs(values[t + 1] - values[t]) > this.landscape.tolerance / 4) found.push(t);
      }
      return found;
    }

    // The cells of the map as one picture; cells whose outcome is not known yet are clear.
    drawMap(grid, codes) {
      const { scale } = this.landscape;
      const across = ((grid.starts[1] - grid.starts[0]) * scale) / 2, up = Math.sqrt(grid.lrs[1] / grid.lrs[0]);
      const first = grid.starts[0] * scale, last = grid.starts[grid.columns - 1] * scale;
      const low = grid.lrs[0], high = grid.lrs[grid.rows - 1];
      const image = ndarray(Float32Array.from(codes), { dtype: "float32", shape: [grid.rows, grid.columns] });
      this.fill("map-image", {
        image: [image], x: [first - across], y: [low / up], dw: [last - first + 2 * across], dh: [high * up - low / up],
      });
      const plot = this.model("map");
      [plot.x_range.start, plot.x_range.end] = [first, last];
      [plot.y_range.start, plot.y_range.end] = [low, high];
      this.ticks(plot.below[0]);
    }

    // A dashed line at a rate, or none.
    drawHold(rate) {
      const line = this.model("map-hold");
      line.visible = rate !== null;
      if (rate !== null) line.location = rate;
    }

    // Colours for light or dark.
    paint() {
      const colors = window.matchMedia("(prefers-color-scheme: dark)").matches ? DARK : LIGHT;
      for (const name of ["landscape", "slope", "losses", "values", "map"]) {
        const plot = this.model(name);
        plot.background_fill_color = plot.border_fill_color = colors.ground;
        plot.outline_line_color = colors.grid;
        for (const axis of [...plot.below, ...plot.left]) {
          axis.axis_label_text_color = axis.major_label_text_color = colors.faint;
          axis.axis_line_color = axis.major_tick_line_color = axis.minor_tick_line_color = colors.faint;
        }
        for (const item of plot.center) if ("grid_line_color" in item) item.grid_line_color = colors.grid;
        for (const item of [...plot.renderers, ...plot.center]) {
          if (item.tags.includes("ink")) ("glyph" in item ? item.glyph : item).line_color = colors.ink;
        }
      }
      for (const name of ["landscape", "slope", "values"]) {
        this.model(`${name}-start`).line_color = colors.start;
        this.model(`${name}-target`).line_color = colors.target;
      }
    }
  }

  gabordiag.Plots = Plots;
})((globalThis.gabordiag ??= {}));
