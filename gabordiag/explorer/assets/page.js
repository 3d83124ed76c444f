// The page: connects controls, plots, map and pictures.

(function (gabordiag) {
  "use strict";

  const digits = gabordiag.digits;
  // Positions of the rate's slider, as in the default scan of `basins`; how long a run is played.
  const PER_DECADE = 48;
  const PLAY_SECONDS = 12;

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
      this.plots = new gabordiag.Plots();
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

    open() {
      this.connect();
      this.plots.paint();
      window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.plots.paint());
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
      range.step = landscape.isAngle ? 0.1 : (landscape.high - landscape.low) * landscape.scale / 1000;
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
      // An invalid number is replaced when the field loses focus.
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
      this.plots.model("map").on_event("tap", (event) => this.set(this.fromMap(event.x, event.y)));
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
        // A field that is being typed into is left alone.
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
      this.explained = this.explain();
      element("verdict").dataset.outcome = this.judged.outcome;
      element("verdict").dataset.cause = this.explained.cause;
      element("verdict-chip").style.background = this.data.colors[this.judged.outcome];
      element("verdict-text").textContent = this.explained.headline;
      element("why").textContent = this.explained.why;
      if (this.drawnLoss !== this.settings.loss) {
        this.plots.drawLandscape(this.objective);
        this.drawnLoss = this.settings.loss;
      }
      this.plots.drawRun(this.run, this.judged);
      element("shown").max = this.run.values.length - 1;
      this.showStep(this.run.values.length - 1);
      this.refreshMap();
    }

    // What the run does and why; for the settings that the page opens with, in the words of diagnose.
    explain() {
      const { rules, run, judged, data, objective } = this;
      const squared = objective.squared in this.objectives ? this.bench(this.objectives[objective.squared]) : null;
      const bench = this.bench(objective), always = data.diagnosis.for_every_run, optimizer = data.optimizers[run.settings.optimizer];
      const explained = gabordiag.explainRun({ rules, run, judged, bench, squared, optimizer, always });
      const isOpening = Object.entries(this.opening).every(([name, value]) => this.settings[name] === value);
      return isOpening ? { ...explained, cause: data.diagnosis.verdict, why: data.diagnosis.headline } : explained;
    }

    // The trials on a loss, kept while optimizer, momentum and steps stay.
    bench(objective) {
      const { optimizer, momentum, steps } = this.settings, key = JSON.stringify([optimizer, momentum, steps]);
      if (this.benchKey !== key) this.benches = {};
      this.benchKey = key;
      return (this.benches[objective.name] ??= new gabordiag.Bench(this.rules, objective, { ...this.settings }));
    }

    // The largest stable rate at the target, by theory.
    get bound() {
      const { optimizer, momentum } = this.settings;
      return gabordiag.stabilityBound(this.data.optimizers[optimizer], this.landscape.goalPoint, momentum);
    }

    // Shows the run up to one step.
    showStep(step) {
      const { landscape, run } = this;
      this.shown = step;
      element("shown").value = step;
      element("shown-text").textContent = `step ${step}: ${landscape.show(landscape.wrap(run.values[step]))}`;
      this.plots.showStep(step);
      if (this.responses !== undefined) this.drawPictures(run.values[step]);
    }

    play() {
      const last = this.run.values.length - 1, began = performance.now();
      element("play").textContent = "❚❚ Pause";
      const frame = (now) => {
        // Slow at first; the whole run takes PLAY_SECONDS.
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
      const now = performance.now();
      // Redrawing takes longer than a slice of runs.
      if (share < 1 && now - (this.mapDrawn ?? 0) < 150) return;
      this.mapDrawn = now;
      this.mapCodes = codes;
      this.plots.drawMap(this.grid, codes);
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
        const leaves = name === "nonfinite" && this.landscape.period === null;
        const words = leaves ? "leaves the range, or NaN" : this.rules.outcomes[name].replace("the target", `the ${this.landscape.goalName}`);
        item.append(chip, `${words} (${share < 0.01 ? "under 1" : Math.round(100 * share)}%)`);
        return item;
      }));
    }

    drawHold() {
      const { bound, landscape } = this, line = landscape.goal === null ? "" : `White line: the ${landscape.goalName}.`;
      this.plots.drawHold(bound === null ? null : bound.lr);
      element("map-lines").textContent = bound === null
        ? line
        : `${line} Dashed: the largest stable rate there by theory, ${bound.symbol} = ${digits(bound.lr)}.`;
    }

    // --- pictures ---------------------------------------------------------------------------------

    drawPictures(theta) {
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
      element("kernel-now-text").textContent = `kernel now, ${shown}`;
      element("response-now-text").textContent = `its response`;
      element("kernel-now").setAttribute("aria-label", `Kernel now, at ${shown}`);
      element("response-now").setAttribute("aria-label", `Response to the kernel at ${shown}`);
    }

    // --- words ------------------------------------------------------------------------------------

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
      parts.push(landscape.completeness);
      parts.push("Runs agree with torch to rounding; in a chaotic run, rounding differences grow with every step.");
      const { for_every_run: flaw } = data.diagnosis;
      element("warning").hidden = flaw === null;
      if (flaw !== null) {
        element("warning").textContent = `Whatever the settings: ${flaw.explanation}. This page descends the derivative of the loss.`;
      }
      element("facts").textContent = parts.join(" ");
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
