// The outcome of one run from its tail: gabordiag/dynamics/outcomes.py, with its thresholds.

(function (gabordiag) {
  "use strict";

  gabordiag.tailLength = (rules, steps) => Math.max(2, Math.ceil(rules.tail_fraction * steps));

  // tail: {values, lossAt(index), lastGradient, moved, isInside}. With isInside every loss is known to
  // be finite where the values are. Returns {outcome, period}, period 0 for none.
  gabordiag.classify = function (rules, landscape, tail) {
    const { values } = tail;
    const last = values[values.length - 1];
    // Losses and periods are worked out where they decide: most cells of a map need neither.
    const losses = once(() => Float64Array.from(values, (_, index) => tail.lossAt(index)));
    const repeat = once(() => findPeriod(rules, landscape, values));
    const result = (outcome) => ({
      outcome,
      get period() {
        return outcome !== "nonfinite" && repeat().period >= 2 ? repeat().period : 0;
      },
    });
    if (!allFinite(values) || !Number.isFinite(tail.lastGradient)) return result("nonfinite");
    if (!tail.isInside && !allFinite(losses())) return result("nonfinite");
    const [least, most] = extent(values);
    // So far out that a double cannot hold the period.
    const isGone = landscape.period !== null && spacing(Math.max(-least, most)) > landscape.tolerance;
    if (isGone) return result("nonfinite");
    const restPoints = landscape.points.map((p) => p.value);
    if (landscape.goal !== null) restPoints.push(landscape.goal);
    const atRest = () => restPoints.some((p) => Math.abs(landscape.offset(last, p)) <= 2e-6 * landscape.tolerance);
    if (!tail.moved && !atRest()) return result("frozen");
    if (landscape.goal !== null && staysNear(landscape, values, landscape.goal)) return result("reached");
    if (landscape.attractors.some((p) => staysNear(landscape, values, p.value))) return result("local_minimum");
    const { period, drift } = repeat();
    if (period >= 1 && drift !== 0) return result("running");
    if (period >= 2) return result("cycle");
    const slow = most - least <= rules.plateau_move * landscape.tolerance;
    const flat = Math.abs(tail.lastGradient) <= rules.plateau_slope * landscape.largestGradient;
    if (slow && flat) return result("plateau");
    if (descends(rules, values, losses(), arrival(landscape, values))) return result("unfinished");
    if (period === 0 && drifts(rules, landscape, values, losses())) return result("unfinished");
    const settled = landscape.attractors.some(
      (p) => p.basin !== null && !p.is_target
        && staysNear(landscape, values, p.value, rules.settled_share * (p.basin[1] - p.basin[0])),
    );
    if (settled) return result("local_minimum");
    return result(period === 1 ? "plateau" : "erratic");
  };

  // Classifies a whole run.
  gabordiag.judge = function (rules, run) {
    const count = run.values.length;
    const tail = gabordiag.tailLength(rules, count - 1);
    const first = Math.max(0, count - tail);
    return gabordiag.classify(rules, run.objective.landscape, {
      values: run.values.subarray(first),
      lossAt: (index) => run.losses[first + index],
      lastGradient: run.gradients[count - 1],
      moved: run.gradients.some((gradient) => gradient !== 0),
      isInside: false,
    });
  };

  // How often the loss rose by a large part of the landscape's height in one step.
  gabordiag.countJumps = function (rules, run) {
    const { largestLoss, smallestLoss } = run.objective.landscape;
    const rise = rules.jump_rise * (largestLoss - smallestLoss);
    return run.losses.reduce((count, loss, t) => count + (t > 0 && loss - run.losses[t - 1] > rise), 0);
  };

  function once(make) {
    let made = null;
    return () => (made ??= make());
  }

  function allFinite(values) {
    for (let t = 0; t < values.length; t++) if (!Number.isFinite(values[t])) return false;
    return true;
  }

  function extent(values) {
    let least = Infinity, most = -Infinity;
    for (const value of values) {
      if (value < least) least = value;
      if (value > most) most = value;
    }
    return [least, most];
  }

  function staysNear(landscape, values, point, reach = landscape.tolerance) {
    // The last value rules most runs out.
    for (let t = values.length - 1; t >= 0; t--) {
      if (!(Math.abs(landscape.offset(values[t], point)) <= reach)) return false;
    }
    return true;
  }

  // The index since which the values stay near the goal or a minimum; their number for never.
  function arrival(landscape, values) {
    const places = landscape.attractors.map((p) => p.value);
    if (landscape.goal !== null) places.push(landscape.goal);
    let since = values.length;
    for (const place of places) {
      let t = values.length;
      while (t > 0 && Math.abs(landscape.offset(values[t - 1], place)) <= landscape.tolerance) t--;
      since = Math.min(since, t);
    }
    return since;
  }

  // The shortest period, 0 for none, and the whole turns over it; 1 is a value at rest, or a steady drift.
  function findPeriod(rules, landscape, values) {
    const length = values.length, width = landscape.high - landscape.low;
    // Values reduced once: rounding of a far-off value would otherwise look like motion.
    const wrapped = Float64Array.from(values, (value) => landscape.wrap(value));
    let largest = 0, longest = 0;
    for (let t = 0; t < length; t++) {
      largest = Math.max(largest, Math.abs(values[t]));
      if (t > 0) longest = Math.max(longest, Math.abs(landscape.offset(wrapped[t] - wrapped[t - 1], 0)));
    }
    const still = Math.max(rules.rounding_move * width, 4 * spacing(largest));
    const threshold = Math.max(rules.repeat_tolerance * longest, still);
    let period = longest <= still ? 1 : 0;
    const most = Math.min(rules.max_period, Math.floor(length / 3));
    for (let p = 2; period === 0 && p <= most; p++) {
      let repeats = true;
      for (let t = length - 1; repeats && t >= p; t--) {
        repeats = Math.abs(landscape.offset(wrapped[t] - wrapped[t - p], 0)) <= threshold;
      }
      if (repeats) period = p;
    }
    if (period === 0 || landscape.period === null) return { period, drift: 0 };
    const moved = values[length - 1] - values[length - 1 - period];
    return { period, drift: Math.round(moved / landscape.period) };
  }

  // The distance to the next larger float64 number, as numpy.spacing.
  const words = new DataView(new ArrayBuffer(8));
  function spacing(value) {
    words.setFloat64(0, value);
    words.setBigInt64(0, words.getBigInt64(0) + 1n);
    return words.getFloat64(0) - value;
  }

  // Whether the loss still goes down step by step, up to where the run arrives, or the oscillation
  // decays.
  function descends(rules, values, losses, arrived) {
    const steps = losses.length - 1, before = Math.min(arrived, steps);
    let down = 0;
    for (let t = 0; t < before; t++) if (losses[t + 1] - losses[t] <= 0) down++;
    if (down >= rules.descent_share * before && losses[before] < losses[0]) return true;
    const windows = rules.decay_windows;
    if (steps < 2 * windows) return false;
    const peaks = [];
    for (let w = 0; w < windows; w++) {
      const from = Math.trunc((w * steps) / windows), to = Math.trunc(((w + 1) * steps) / windows);
      let peak = 0;
      for (let t = from; t < to; t++) peak = Math.max(peak, Math.abs(values[t + 1] - values[t]));
      peaks.push(peak);
    }
    const shrinks = peaks.every((peak, w) => w === 0 || peak < peaks[w - 1]);
    return shrinks && peaks[windows - 1] < (1 - rules.decay_drop) * peaks[0];
  }

  // Whether the values go one way within a tolerance, where noise may hide that the loss goes down.
  function drifts(rules, landscape, values, losses) {
    const steps = values.length - 1, net = Math.abs(values[steps] - values[0]);
    let path = 0, rises = 0;
    for (let t = 0; t < steps; t++) {
      path += Math.abs(values[t + 1] - values[t]);
      if (losses[t + 1] > losses[t]) rises++;
    }
    const [least, most] = extent(values), share = rules.descent_share;
    return most - least <= landscape.tolerance && net > 0 && net >= share * path && rises < share * steps;
  }
})((globalThis.gabordiag ??= {}));
