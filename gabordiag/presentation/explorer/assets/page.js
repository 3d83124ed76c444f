// The page: controls, plots, map and pictures held together.

(function (gabordiag) {
  "use strict";

  const digits = gabordiag.digits;
  const CURVE_POINTS = 721;
  const SHOWN_MOVES = 10;
  const PER_DECADE = 48;
  const PLAY_SECONDS = 12;
  const LIGHT = { ground: "#ffffff", ink: "#222222", faint: "#444444", grid: "#e4e4e4", start: "#0072B2", target: "#00694D" };
  const DARK = { ground: "#17181a", ink: "#ececea", faint: "#c4c6c9", grid: "#34373b", start: "#58aef0", target: "#3ecf9f" };

  const { ndarray } = Bokeh.require("core/util/ndarray");
  const element = (id) => document.getElementById(id);
  const clamp = (x, low, high) => Math.min(high, Math.max(low, x));

  class Page {
    constructor(data) {
      this.data = data;
      this.rules = data.rules;
      this.outcomes = Object.keys(data.rules.outcomes);
      this.objectives = {};
      for (const [name, spec] of Object.entries(data.losses)) {
        this.objectives[name] = new gabordiag.Objective(name, spec);
      }
      this.opening = {
        loss: data.loss, optimizer: data.optimizer, start: data.start, lr: data.lr, momentum: data.momentum, steps: data.steps,
      };
      this.settings = { ...this.opening };
      // Whole decades around what the page opens with, 1e-4 to 10 at least.
      this.rates = {
        low: Math.min(1e-4, 10 ** Math.floor(Math.log10(data.lr))),
        high: Math.max(10, 10 ** Math.ceil(Math.log10(data.lr))),
      };
      this.lastMomentum = data.momentum || 0.9;
      this.stopMap = () => {};
      this.mapKey = "";
      this.playing = null;
      if (data.filter !== null) this.responses = new gabordiag.Responses(data.pictures, this.landscape.period);
    }

    get objective() {
      return this.objectives[this.settings.loss];
    }

    get landscape() {
      return this.objective.landscape;
    }

    model(name) {
      const document_ = Bokeh.documents.find((d) => d.get_model_by_name(name) !== null);
      return document_.get_model_by_name(name);
    }

    fill(name, columns) {
      this.model(name).data = columns;
    }

    open() {
      this.connect();
      this.paint();
      window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.paint());
      this.describe();
      this.refresh();
      document.body.dataset.ready = "yes";
    }

    // --- controls ---------------------------------------------------------------------------------

    get rateSteps() {
      return Math.round(PER_DECADE * Math.log10(this.rates.high / this.rates.low));
    }

    rateAt(position) {
      return this.rates.low * 10 ** (position / PER_DECADE);
    }

    connect() {
      const { landscape } = this;
      const range = element("start");
      range.min = landscape.low * landscape.scale;
      range.max = landscape.high * landscape.scale;
      range.step = landscape.isAngle ? 0.1 : "any";
      if (!landscape.isAngle) range.step = (landscape.high - landscape.low) * landscape.scale / 1000;
      element("start-unit").textContent = landscape.unit;
      element("lr").max = this.rateSteps;
      const change = (id, read) => element(id).addEventListener("input", () => {
        const value = read(element(id).valueAsNumber);
        if (value !== null) this.set(value);
      });
      const within = (x, low, high) => (x >= low && x <= high ? x : null);
      const field = (name, x, low, high) => (within(x, low, high) === null ? null : { [name]: x });
      const whole = (x) => (Number.isInteger(x) ? field("steps", x, 1, 20000) : null);
      change("start", (x) => ({ start: x / landscape.scale }));
      change("start-number", (x) => {
        const [low, high] = landscape.period === null ? [landscape.low, landscape.high] : [-1e6, 1e6];
        return field("start", x / landscape.scale, low, high);
      });
      change("lr", (x) => ({ lr: this.rateAt(x) }));
      change("lr-number", (x) => (x > 0 && x < 1e9 ? { lr: x } : null));
      change("momentum", (x) => ({ momentum: x }));
      change("momentum-number", (x) => field("momentum", x, 0, 0.999));
      change("steps", whole);
      change("steps-number", whole);
      for (const name of ["optimizer", "loss"]) {
        element(name).addEventListener("change", () => this.set({ [name]: element(name).value }));
      }
      // A number that cannot be used goes when the field is left.
      for (const id of ["start-number", "lr-number", "momentum-number", "steps-number"]) {
        element(id).addEventListener("change", () => this.showSettings());
      }
      element("reset").addEventListener("click", () => this.set(this.opening));
      element("shown").addEventListener("input", () => {
        this.pause();
        this.showStep(element("shown").valueAsNumber);
      });
      element("play").addEventListener("click", () => (this.playing === null ? this.play() : this.pause()));
      this.connectMap();
      if (Object.keys(this.objectives).length === 1) element("loss").disabled = true;
    }

    connectMap() {
      const plot = this.model("map");
      plot.on_event("tap", (event) => this.set(this.fromMap(event.x, event.y)));
      element("plot-map").addEventListener("keydown", (event) => {
        const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
        if (move === undefined) return;
        event.preventDefault();
        const { start, lr } = this.settings, { grid } = this;
        const across = grid.starts[1] - grid.starts[0], up = Math.log10(grid.lrs[1] / grid.lrs[0]);
        const x = (this.landscape.wrap(start) + move[0] * across) * this.landscape.scale;
        this.set(this.fromMap(x, lr * 10 ** (move[1] * up)));
      });
    }

    fromMap(x, y) {
      const { landscape, rates } = this;
      return {
        start: clamp(x / landscape.scale, landscape.low, landscape.high),
        lr: clamp(y, rates.low, rates.high),
      };
    }

    // Changes settings and runs again.
    set(changes) {
      const before = this.settings;
      this.settings = { ...before, ...changes };
      const takes = this.data.optimizers[this.settings.optimizer].takes_momentum;
      // Momentum that was 0 only because the optimizer has none starts at the usual 0.9.
      if (takes && this.settings.momentum === 0 && !this.data.optimizers[before.optimizer].takes_momentum) {
        this.settings.momentum = this.lastMomentum;
      }
      if (takes && this.settings.momentum > 0) this.lastMomentum = this.settings.momentum;
      this.pause();
      this.refresh();
    }

    showSettings() {
      const { settings, landscape } = this;
      const put = (id, value) => {
        // Not under the fingers of whoever is typing.
        if (document.activeElement !== element(id) || element(id).type !== "number") element(id).value = value;
      };
      const start = settings.start * landscape.scale;
      put("start", landscape.wrap(settings.start) * landscape.scale);
      put("start-number", Number(start.toPrecision(7)));
      put("lr", Math.round(PER_DECADE * Math.log10(settings.lr / this.rates.low)));
      put("lr-number", Number(settings.lr.toPrecision(4)));
      put("momentum", settings.momentum);
      put("momentum-number", Number(settings.momentum.toPrecision(4)));
      put("steps", settings.steps);
      put("steps-number", settings.steps);
      element("optimizer").value = settings.optimizer;
      element("loss").value = settings.loss;
      element("start").setAttribute("aria-valuetext", landscape.show(settings.start));
      element("lr").setAttribute("aria-valuetext", digits(settings.lr));
      const takes = this.data.optimizers[settings.optimizer].takes_momentum;
      element("control-momentum").classList.toggle("off", !takes);
      element("momentum").disabled = element("momentum-number").disabled = !takes;
    }

    // --- a run ------------------------------------------------------------------------------------

    refresh() {
      this.showSettings();
      this.run = gabordiag.descend(this.objective, this.settings);
      this.judged = gabordiag.judge(this.rules, this.run);
      this.told = gabordiag.tellRun(this.rules, this.run, this.judged);
      element("verdict").dataset.outcome = this.judged.outcome;
      element("verdict-chip").style.background = this.data.colors[this.judged.outcome];
      element("verdict-text").textContent = this.told.headline;
      element("why").textContent = this.told.why;
      if (this.drawnLoss !== this.settings.loss) this.drawLandscape();
      this.drawRun();
      this.showStep(this.run.values.length - 1);
      this.refreshMap();
    }

    drawLandscape() {
      const { landscape, objective } = this;
      this.drawnLoss = this.settings.loss;
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
      const height = landscape.largestLoss, steepest = landscape.largestGradient / landscape.scale;
      this.frame("landscape", -0.05 * height, 1.08 * height);
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

    // Degrees are read at multiples of 30 or 45, not of 20.
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

    drawRun() {
      const { landscape, run, settings } = this;
      const folded = Array.from(run.values, (value) => landscape.wrap(value) * landscape.scale);
      this.folds = folded;
      this.slopes = Array.from(run.gradients, (gradient) => gradient / landscape.scale);
      const losses = Array.from(run.losses), steps = losses.map((_, step) => step);
      this.fill("losses-dots", { x: steps, y: losses });
      this.fill("values-dots", { x: steps, y: folded });
      const most = losses.reduce((largest, loss) => (loss > largest ? loss : largest), 0);
      const end = this.interesting();
      for (const name of ["losses", "values"]) {
        this.model(name).x_range.start = -0.02 * end;
        this.model(name).x_range.end = 1.02 * end;
      }
      this.model("losses").y_range.start = -0.05 * (most || 1);
      this.model("losses").y_range.end = 1.08 * (most || 1);
      this.thin(end);
      const start = landscape.wrap(settings.start) * landscape.scale;
      for (const name of ["landscape-start", "slope-start", "values-start"]) this.model(name).location = start;
      for (const width of ["5", "2"]) {
        this.fill(`map-cross-${width}`, { x: [start], y: [settings.lr] });
      }
      element("shown").max = run.values.length - 1;
    }

    // Many dots are drawn small and faint, few large and clear.
    thin(count) {
      const few = count <= 150;
      for (const name of ["landscape", "slope", "losses", "values"]) {
        const { glyph } = this.model(`dots-${name}`);
        const steps = name === "losses" || name === "values";
        glyph.size = steps ? (few ? 6 : 3.5) : 8;
        glyph.fill_alpha = few || steps ? 0.85 : 0.25;
      }
      for (const name of ["losses", "values"]) this.model(`line-${name}`).glyph.line_alpha = few ? 0.8 : 0.35;
    }

    // The last step worth looking at: of a run that has settled, a little after it did.
    interesting() {
      const { landscape, run } = this, count = run.values.length;
      if (!["reached", "local_minimum", "plateau"].includes(this.judged.outcome)) return Math.max(1, this.settings.steps);
      let since = count - 1;
      while (since > 0 && Math.abs(run.values[since - 1] - run.values[count - 1]) <= landscape.tolerance) since--;
      return Math.min(Math.max(1, count - 1), Math.max(20, 3 * since));
    }

    // Shows the run up to one step: where it was, its last moves, where it is, what it sees there.
    showStep(step) {
      const { landscape, run, folds, slopes } = this;
      this.shown = step;
      element("shown").value = step;
      element("shown-text").textContent = `step ${step}: ${landscape.show(landscape.wrap(run.values[step]))}`;
      const losses = run.losses;
      this.fill("visited", { x: folds.slice(0, step + 1), y: Array.from(losses.subarray(0, step + 1)) });
      this.fill("slope-visited", { x: folds.slice(0, step + 1), y: slopes.slice(0, step + 1) });
      this.fill("here", { x: [folds[step]], y: [losses[step]] });
      this.fill("slope-here", { x: [folds[step]], y: [slopes[step]] });
      this.fill("moves", this.moves(step));
      this.model("losses-shown").location = step;
      this.model("values-shown").location = step;
      if (this.responses !== undefined) this.drawPictures(run.values[step], step);
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

    play() {
      const last = this.run.values.length - 1, began = performance.now();
      element("play").textContent = "❚❚ Pause";
      const frame = (now) => {
        // Slow at first, when there is most to see; all of it in a dozen seconds.
        const t = (now - began) / 1000, share = clamp(t / PLAY_SECONDS, 0, 1);
        const step = Math.min(last, Math.floor(6 * t + last * share ** 3));
        if (step !== this.shown) this.showStep(step);
        if (step >= last) return this.pause();
        this.playing = requestAnimationFrame(frame);
        return undefined;
      };
      this.showStep(0);
      this.playing = requestAnimationFrame(frame);
    }

    pause() {
      if (this.playing !== null) cancelAnimationFrame(this.playing);
      this.playing = null;
      element("play").textContent = "▶ Play";
    }

    // --- the map ----------------------------------------------------------------------------------

    refreshMap() {
      const { optimizer, momentum, loss, steps } = this.settings;
      const key = JSON.stringify([optimizer, momentum, loss, steps]);
      if (key === this.mapKey) return;
      this.mapKey = key;
      this.stopMap();
      this.grid = gabordiag.mapGrid(this.landscape, this.rates);
      const codeOf = (outcome) => this.outcomes.indexOf(outcome);
      this.stopMap = gabordiag.fillMap(this.rules, this.objective, this.settings, this.grid, codeOf, (codes, share) => {
        this.drawMap(codes, share);
      });
      this.drawHold();
    }

    drawMap(codes, share) {
      const { grid, landscape } = this;
      const now = performance.now();
      // Redrawing takes longer than a slice of runs.
      if (share < 1 && now - (this.mapDrawn ?? 0) < 150) return;
      this.mapDrawn = now;
      this.mapCodes = codes;
      this.mapShare = share;
      const across = ((grid.starts[1] - grid.starts[0]) * landscape.scale) / 2;
      const up = Math.sqrt(grid.lrs[1] / grid.lrs[0]);
      const first = grid.starts[0] * landscape.scale, last = grid.starts[grid.columns - 1] * landscape.scale;
      const low = grid.lrs[0] / up, high = grid.lrs[grid.rows - 1] * up;
      const image = ndarray(Float32Array.from(codes), { dtype: "float32", shape: [grid.rows, grid.columns] });
      this.fill("map-image", { image: [image], x: [first - across], y: [low], dw: [last - first + 2 * across], dh: [high - low] });
      const plot = this.model("map");
      plot.x_range.start = first;
      plot.x_range.end = last;
      plot.y_range.start = grid.lrs[0];
      plot.y_range.end = grid.lrs[grid.rows - 1];
      this.ticks(plot.below[0]);
      element("map-state").textContent = share < 1 ? `computing, ${Math.round(100 * share)}%` : "";
      element("plot-map").dataset.done = share < 1 ? "no" : "yes";
      this.drawLegend(codes);
    }

    drawLegend(codes) {
      const counts = new Array(this.outcomes.length).fill(0);
      let total = 0;
      for (const code of codes) {
        if (code < 0) continue;
        counts[code]++;
        total++;
      }
      const entries = this.outcomes.map((name, code) => ({ name, share: counts[code] / total })).filter(({ share }) => share > 0);
      element("legend").replaceChildren(...entries.map(({ name, share }) => {
        const item = document.createElement("li"), chip = document.createElement("span");
        chip.className = "chip";
        chip.style.background = this.data.colors[name];
        const words = name === "nonfinite" && this.landscape.period === null ? "leaves the range, or NaN" : this.rules.outcomes[name];
        item.append(chip, `${words} (${share < 0.01 ? "under 1" : Math.round(100 * share)}%)`);
        return item;
      }));
    }

    drawHold() {
      const hold = gabordiag.holdRate(this.landscape, this.landscape.goalPoint, this.settings);
      const line = this.model("map-hold");
      line.visible = hold !== null;
      if (hold !== null) line.location = hold.rate;
      element("map-lines").textContent = hold === null
        ? "White line: the target."
        : `White line: the target. Dashed: what its basin holds at most, ${hold.formula} = ${digits(hold.rate)}.`;
    }

    // --- pictures ---------------------------------------------------------------------------------

    drawPictures(theta, step) {
      const { landscape, responses, data } = this;
      const target = data.losses[this.settings.loss].landscape.target, size = data.filter.kernel_size;
      const kernel = (id, angle) => gabordiag.drawGrey(element(id), gabordiag.gaborKernel(data.filter, angle), size, -1, 1);
      if (this.greys === undefined) {
        this.greys = gabordiag.greyRange(responses.target);
        kernel("kernel-target", target);
        gabordiag.drawGrey(element("response-target"), responses.target, responses.columns, ...this.greys);
        gabordiag.drawGrey(element("image"), responses.image, responses.columns, 0, 255);
        element("kernel-target-text").textContent = `target kernel, ${landscape.show(target)}`;
        element("kernel-target").setAttribute("aria-label", `Target kernel at ${landscape.show(target)}`);
        element("response-target").setAttribute("aria-label", "Response to the target kernel");
      }
      if (!Number.isFinite(theta)) return;
      kernel("kernel-now", theta);
      gabordiag.drawGrey(element("response-now"), responses.at(theta), responses.columns, ...this.greys);
      const shown = landscape.show(landscape.wrap(theta));
      element("kernel-now-text").textContent = `kernel at step ${step}, ${shown}`;
      element("response-now-text").textContent = `its response`;
      element("kernel-now").setAttribute("aria-label", `Kernel at step ${step}, ${shown}`);
      element("response-now").setAttribute("aria-label", `Response at step ${step}`);
    }

    // --- words and colours ------------------------------------------------------------------------

    describe() {
      const { data, landscape } = this;
      const series = data.losses[data.loss].series;
      const parts = [];
      if (data.filter !== null) {
        const { wavelength, sigma, gamma, psi, kernel_size: size } = data.filter;
        parts.push(`Kernel ${size} × ${size}, wavelength ${digits(wavelength)} px, sigma ${digits(sigma)} px, gamma ${digits(gamma)}, psi ${digits((psi * 180) / Math.PI)}°.`);
        const { block, is_whole: whole } = data.pictures;
        const averaged = block > 1 ? `each pixel the mean of ${block} × ${block}` : "at full resolution";
        element("pictures-text").textContent = `Responses${whole ? "" : " of the image's middle"}, ${averaged}; dark is negative, bright positive.`;
      }
      parts.push(`The loss comes from ${series.cosines.length + series.sines.length} coefficients and differs from the computed one by ${digits(series.error, 1)} of its largest value.`);
      parts.push(landscape.certified ? "The list of minima is proven complete." : "The list of minima could not be proven complete.");
      parts.push("Runs are those of torch, digit for digit at first; where a run is chaotic, rounding decides in the end.");
      if (data.losses[data.loss].gradient_differs) {
        parts.push("Beware: the objective's own gradient is not the derivative of its loss, which this page follows; gabordiag diagnose says more.");
      }
      element("facts").textContent = parts.join(" ");
    }

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

  gabordiag.Page = Page;

  async function openPage() {
    const data = JSON.parse(element("gabordiag-data").textContent);
    const figures = JSON.parse(element("gabordiag-figures").textContent);
    await Promise.all(figures.map((item) => Bokeh.embed.embed_item(item)));
    gabordiag.page = new Page(data);
    gabordiag.page.open();
  }

  openPage();
})((globalThis.gabordiag ??= {}));
