// A run in words: what it does, and why it fails. Causes are tested in the order of
// gabordiag/diagnosis/causes.py, each by the same trials; the first whose removal alone makes the run
// reach the target is the cause, and where none does, the one that explains most.

(function (gabordiag) {
  "use strict";

  const digits = gabordiag.digits;
  const CAUSES = [
    ["flat_start", flatStart], ["kink", kink], ["step_too_small", stepTooSmall],
    ["step_too_large", stepTooLarge], ["wrong_basin", wrongBasin], ["no_working_lr", noWorkingRate],
  ];
  // Where no single change suffices: the cause that leaves the others no chance comes first.
  const EXPLANATORY = ["flat_start", "no_working_lr", "wrong_basin", "step_too_large", "kink", "step_too_small"];

  // Returns {headline, cause, why}. about: {rules, run, judged, bench, squared, optimizer, always};
  // bench and squared hold trials on the loss and on the loss under its root (or null), optimizer is
  // its entry of the page's data, always the finding that is the cause of all failures (or null).
  gabordiag.explainRun = function (about) {
    const { run, judged } = about, { landscape } = run.objective;
    const goal = landscape.goalPoint, own = landscape.attractorOf(run.settings.start);
    const a = {
      ...about, landscape, goal, own, objective: run.objective, settings: run.settings,
      goalName: landscape.goalName,
      startsInside: goal !== null && own === goal,
      bound: gabordiag.stabilityBound(about.optimizer, goal, run.settings.momentum),
    };
    const found = judged.outcome === "reached" ? { cause: "healthy", why: whyReached(a) } : findCause(a);
    return { headline: HEADLINES[judged.outcome](a), ...found };
  };

  function findCause(a) {
    const { rules, run, settings, always } = a;
    if (always !== null) return { cause: always.cause, why: `${always.explanation[0].toUpperCase()}${always.explanation.slice(1)}.` };
    const broken = run.gradients.findIndex((g, t) => !Number.isFinite(g) && Number.isFinite(run.losses[t]));
    if (broken >= 0) {
      return { cause: "nonfinite_gradient", why: `At step ${broken} the loss is zero, where the derivative of a ` +
        "square root is 0/0; torch gives NaN as well. Use the squared loss, or start beside this value." };
    }
    const short = run.values.length > settings.steps && gabordiag.tailLength(rules, settings.steps) < rules.shortest_tail;
    const present = new Map();
    for (const [cause, test] of CAUSES) {
      // More steps may be all that a short run lacks.
      const found = short && cause === "step_too_small" ? null : test(a);
      if (found === null) continue;
      if (found.sufficient) return { cause, why: found.why + jumpWords(a) };
      present.set(cause, found.why);
    }
    if (short) {
      return { cause: "inconclusive", why: `Too few steps to find a cause: at least ${10 * rules.shortest_tail} are needed.` };
    }
    const cause = EXPLANATORY.find((name) => present.has(name));
    if (cause === undefined) return { cause: "inconclusive", why: "No cause that was tested explains it. Run more steps." };
    return { cause, why: present.get(cause) + jumpWords(a) };
  }

  const span = (landscape, [low, high]) => `${landscape.show(low)} to ${landscape.show(high)}`;
  const basinWords = ({ landscape, goal, goalName }) => `the ${goalName}'s basin, ${span(landscape, goal.basin)}`;

  // --- causes: null if absent, else {sufficient, why} ----------------------------------------------

  function flatStart({ rules, run, judged, landscape, settings, bench, goalName }) {
    const { start, lr } = settings, { values } = run;
    const slope = Math.abs(run.gradients[0]), nudge = 5 * landscape.tolerance;
    const rise = (landscape.largestLoss - landscape.smallestLoss) / (landscape.high - landscape.low);
    const flat = slope <= rules.flat_slope * landscape.largestGradient && slope <= rules.flat_rise * rise;
    const stuck = ["plateau", "frozen", "unfinished"].includes(judged.outcome);
    if (!flat || !stuck || Math.abs(values[values.length >> 1] - start) > nudge) return null;
    const beside = [start + nudge, start - nudge].find((value) => bench.confirmed(value, lr));
    const advice = beside === undefined ? "" : ` A start of ${landscape.show(beside)} reaches the ${goalName}.`;
    return { sufficient: beside !== undefined, why: "The start is a maximum, an inflection or a plateau: the slope there " +
      `is below ${digits(100 * rules.flat_slope)}% of the steepest, and descent hardly leaves it.${advice}` };
  }

  function kink(a) {
    const { objective, landscape, goal, settings, squared, goalName, optimizer } = a, { start, lr } = settings;
    if (goal === null || goal.slope === null || !bouncesAtTarget(a)) return null;
    const sufficient = squared !== null && squared.confirmed(start, lr);
    const length = optimizer.bound === null ? "" : ` by up to lr × slope = ${landscape.show(lr * goal.slope)}`;
    const advice = sufficient ? ` At the same rate ${squared.objective.name} reaches the ${goalName}.` : "";
    return { sufficient, why: `The slope of ${objective.name} does not vanish at the ${goalName} (a kink), so a fixed rate ` +
      `never converges: it bounces across${length}.${advice}` };
  }

  // Whether the run's second half stays in the target's basin and keeps crossing the target.
  function bouncesAtTarget({ run, landscape, goal }) {
    const late = run.values.subarray(run.values.length >> 1), basin = landscape.basinAround(goal, late[0]);
    if (basin === null || !late.every((value) => value >= basin[0] && value <= basin[1])) return false;
    let crossings = 0;
    for (let t = 1; t < late.length; t++) {
      if (Math.sign(landscape.offset(late[t], goal.value)) !== Math.sign(landscape.offset(late[t - 1], goal.value))) crossings++;
    }
    return crossings >= Math.floor(late.length / 4);
  }

  // The steps with which the run arrives at its own rate, where a smaller one needs as many; or null.
  function longer({ settings, startsInside, bench }) {
    const found = bench.tuned(settings.start, startsInside, { below: settings.lr });
    const isMore = found !== null && found.steps > settings.steps;
    return isMore && bench.confirmed(settings.start, settings.lr, found.steps) ? found.steps : null;
  }

  // Whether a run that is on its way steps to and fro across its goal.
  function flips({ rules, run, judged, settings }) {
    if (judged.outcome !== "unfinished" || settings.optimizer !== "sgd") return false;
    const tail = run.values.slice(-gabordiag.tailLength(rules, settings.steps));
    const moves = Array.from(tail.slice(1), (value, index) => value - tail[index]);
    return moves.length > 2 && moves.slice(1).every((move, index) => move * moves[index] < 0);
  }

  function stepTooSmall(a) {
    const { judged, settings, startsInside, bench, goalName } = a;
    const swings = judged.outcome === "erratic" ? longer(a) : null;
    if (swings !== null) return { sufficient: true, why: `It still swings about the ${goalName}, ever less: ` +
      `${swings} steps reach it.` };
    if (judged.outcome !== "unfinished" || flips(a)) return null;
    const found = startsInside ? bench.tuned(settings.start, true, { above: settings.lr, moreSteps: false }) : null;
    const advice = found === null ? "" : ` A rate of ${digits(found.lr)} reaches the ${goalName} in as many.`;
    return { sufficient: found !== null, why: `${settings.steps} steps of this rate are too few.${advice}` };
  }

  // Whether a step led the run farther from the goal than it began.
  function isThrown({ run, landscape }) {
    if (landscape.goal === null) return false;
    const apart = Array.from(run.values, (value) => Math.abs(landscape.offset(value, landscape.goal)));
    return apart[apart.length - 1] > apart[0];
  }

  function stepTooLarge(a) {
    const { judged, settings, startsInside, bench, bound, goalName } = a, { lr, start, steps } = settings, { hold } = bench;
    const thrown = ["unfinished", "nonfinite"].includes(judged.outcome) && isThrown(a);
    const across = flips(a) && !thrown;
    const found = judged.outcome === "unfinished" && !thrown && !across ? null : bench.tuned(start, startsInside, { below: lr });
    const unstable = bench.objective.beside.length > 0 && !(hold !== null && lr <= hold) && !bench.holds(lr);
    if (found === null && !unstable && !thrown && !across) return null;
    if (!unstable && !thrown && !across && longer(a) !== null) return null;
    const theory = bound === null ? "" : ` (theory: ${bound.symbol} = ${digits(bound.lr)})`;
    const limit = unstable && hold !== null ? `: the ${goalName}'s basin is stable up to ${digits(hold)}${theory}` : "";
    const count = found === null || found.steps === steps ? "" : ` in ${found.steps} steps`;
    const advice = found === null ? "" : ` A rate of ${digits(found.lr)} reaches the ${goalName}${count}.`;
    const how = across ? `: each step leads across the ${goalName}, nearly as far as the last` : "";
    return { sufficient: found !== null, why: `The rate ${digits(lr)} is too large${limit}${how}.${advice}` };
  }

  function wrongBasin(a) {
    const { landscape, settings, own, goal, startsInside, bench, goalName } = a;
    if (goal === null || goal.basin === null || startsInside) return null;
    // Half way from the target to the edge that is nearer to the start.
    const edge = goal.basin[landscape.offset(settings.start, goal.value) < 0 ? 0 : 1];
    const inside = goal.value + (edge - goal.value) / 2, sufficient = bench.confirmed(inside, settings.lr);
    const leads = own === null ? "to no minimum of the range" : `to the minimum at ${landscape.show(own.value)}`;
    const advice = sufficient ? ` A start of ${landscape.show(landscape.wrap(inside))} reaches the ${goalName}.` : "";
    return { sufficient, why: `The start lies outside ${basinWords(a)}: from here descent leads ${leads}.${advice}` };
  }

  function noWorkingRate({ settings, startsInside, goal, own, bench, goalName }) {
    const { working, escape } = bench.windows(settings.start), { hold, lrs } = bench;
    if (goal === null || working.length > 0 || startsInside) return null;
    const stable = hold === null ? `no scanned rate is stable in the ${goalName}'s basin`
      : `the ${goalName}'s basin is stable up to ${digits(hold)}`;
    let leaving = own === null ? "descent leads to no minimum of the range" : "none leaves the start's basin";
    if (escape !== null) leaving = `leaving the start's basin takes ${digits(escape)}`;
    const times = escape !== null && hold !== null && escape > hold ? `, ${digits(escape / hold)} times less` : "";
    return { sufficient: false, why: `None of ${lrs.length} learning rates from ${digits(lrs[0])} to ` +
      `${digits(lrs[lrs.length - 1])} reaches the ${goalName} from this start: ${leaving}, and ${stable}${times}.` };
  }

  // --- words --------------------------------------------------------------------------------------

  function whyReached(a) {
    const { goal, startsInside, settings, bound, goalName } = a;
    if (goal === null) return `The ${goalName} is no minimum of the loss: a run that goes on may leave it.`;
    if (!startsInside) {
      return `The start lies outside ${basinWords(a)}: long steps or momentum carried the run over. ` +
        "The map shows whether nearby starts and rates do the same.";
    }
    const below = bound !== null && settings.lr <= bound.lr;
    const why = below ? `the rate is below ${bound.symbol} = ${digits(bound.lr)}` : "the steps are small enough to stay in it";
    return `The start lies in ${basinWords(a)}, and ${why}.`;
  }

  function jumpWords({ rules, run }) {
    const count = gabordiag.countJumps(rules, run);
    if (count === 0) return "";
    return ` ${count === 1 ? "One jump" : `${count} jumps`}: steps on which the loss rises by ${100 * rules.jump_rise}% of the landscape's height.`;
  }

  const lastValue = (run) => run.values[run.values.length - 1];

  function reachedWords({ landscape, run, goalName }) {
    let since = run.values.length - 1;
    while (since > 0 && Math.abs(landscape.offset(run.values[since - 1], landscape.goal)) <= landscape.tolerance) since--;
    const turns = landscape.period === null ? 0 : Math.abs(Math.round((lastValue(run) - landscape.goal) / landscape.period));
    const away = turns === 0 ? "" : `, ${turns} whole turn${turns > 1 ? "s" : ""} on`;
    return `Reaches the ${goalName}, ${landscape.show(landscape.goal)}${away}, by step ${since} and stays.`;
  }

  function minimumWords({ landscape, run, goalName }) {
    const last = lastValue(run);
    const point = landscape.attractors.find((p) => Math.abs(landscape.offset(last, p.value)) <= landscape.tolerance);
    const where = point === undefined ? landscape.wrap(last) : point.value;
    return `Converges to ${landscape.show(where)}, another minimum, not to the ${goalName}.`;
  }

  function nonfiniteWords({ landscape, run }) {
    const out = landscape.period === null
      ? run.values.findIndex((v) => Number.isFinite(v) && !(v >= landscape.low && v <= landscape.high)) : -1;
    if (out >= 0) return `Leaves the range ${span(landscape, [landscape.low, landscape.high])}, all that this page knows, at step ${out}.`;
    return Number.isFinite(lastValue(run)) || run.losses.some((loss) => loss === 0)
      ? "The gradient becomes NaN, and every later step with it." : "Diverges to infinity.";
  }

  const HEADLINES = {
    reached: reachedWords,
    local_minimum: minimumWords,
    plateau: ({ landscape, run }) => `Hardly moves at ${landscape.show(landscape.wrap(lastValue(run)))}, where there is no minimum.`,
    cycle: ({ judged }) => `Never converges: repeats a cycle of ${judged.period} values.`,
    erratic: () => "Never converges: wanders without a period.",
    running: () => "Never converges: drifts by whole turns while the loss repeats.",
    unfinished: ({ landscape, run }) => `Still descending at ${landscape.show(landscape.wrap(lastValue(run)))} when the steps end.`,
    frozen: () => "Never moves: the gradient is exactly zero.",
    nonfinite: nonfiniteWords,
  };
})((globalThis.gabordiag ??= {}));
