// A run in words: what it does, and one sentence of why.

(function (gabordiag) {
  "use strict";

  const digits = gabordiag.digits;
  // Theory knows at what rates these rest. The others need no more than a name here, if they divide
  // by the gradient's size.
  const GRADIENT_DESCENT = ["sgd", "heavy_ball", "nesterov"];
  const STEP_WORDS = { adam: "Adam", rmsprop: "RMSprop" };

  // Returns {headline, why} of a judged run.
  gabordiag.tellRun = function (rules, run, judged) {
    const about = describe(rules, run, judged);
    const [headline, why] = TELLERS[judged.outcome](about);
    return { headline, why };
  };

  // What the sentences are made of.
  function describe(rules, run, judged) {
    const { objective, settings } = run;
    const landscape = objective.landscape, goal = landscape.goalPoint;
    const own = landscape.attractorOf(settings.start);
    return {
      rules, run, judged, objective, settings, landscape, goal, own,
      goalName: landscape.hasTarget ? "target" : "lowest minimum",
      startsInside: goal !== null && own === goal,
      staysInOwn: own !== null && staysIn(landscape, own, run),
      symptoms: gabordiag.countSymptoms(rules, run),
      holds: holdRate(landscape, goal, settings),
      escapes: holdRate(landscape, own, settings),
      last: run.values[run.values.length - 1],
    };
  }

  // Whether a run never leaves the basin it starts in.
  function staysIn(landscape, point, run) {
    const basin = landscape.basinAround(point, run.settings.start);
    return basin !== null && run.values.every((value) => value >= basin[0] && value <= basin[1]);
  }

  // The largest rate that rests at a point, by theory, with its formula; null where there is none.
  // Goh 2017 for heavy ball; Nesterov's from the same 2 x 2 matrix. At a kink, whose slope does not
  // fade, the bounce lr x slope must stay within the tolerance.
  function holdRate(landscape, point, settings) {
    if (point === null) return null;
    const beta = settings.optimizer === "sgd" ? 0 : settings.momentum;
    if (!GRADIENT_DESCENT.includes(settings.optimizer)) return null;
    // Velocity makes a bounce longer by what depends on the path.
    if (point.slope !== null && beta > 0) return null;
    if (point.slope !== null) return { rate: landscape.tolerance / point.slope, formula: "tolerance / slope" };
    if (point.curvature === null || point.curvature <= 0) return null;
    if (settings.optimizer === "nesterov" && beta > 0) {
      return { rate: (2 * (1 + beta)) / ((1 + 2 * beta) * point.curvature), formula: "2 (1 + β) / ((1 + 2β) L″)" };
    }
    const formula = beta > 0 ? "2 (1 + β) / L″" : "2 / L″";
    return { rate: (2 * (1 + beta)) / point.curvature, formula };
  }

  gabordiag.holdRate = holdRate;

  const span = (landscape, [low, high]) => `${landscape.show(low)} to ${landscape.show(high)}`;

  function tellReached(a) {
    const { landscape, run, settings } = a;
    let since = run.values.length - 1;
    while (since > 0 && Math.abs(landscape.offset(run.values[since - 1], landscape.goal)) <= landscape.tolerance) since--;
    const turns = landscape.period === null ? 0 : Math.round((a.last - landscape.goal) / landscape.period);
    const away = turns === 0 ? "" : `, ${Math.abs(turns)} whole turn${Math.abs(turns) > 1 ? "s" : ""} on`;
    const headline = `Reaches the ${a.goalName}, ${landscape.show(landscape.goal)}${away}, by step ${since} and stays.`;
    if (!a.startsInside) {
      return [headline, `The start lies outside the ${a.goalName}'s basin: a long step or momentum carried it over. ` +
        "Neighbours on the map tell whether that was luck."];
    }
    const inside = `The start lies in the ${a.goalName}'s basin, ${span(landscape, a.goal.basin)}`;
    if (a.goal.slope !== null && a.holds !== null) {
      const bounce = settings.lr * a.goal.slope, within = landscape.tolerance / 50;
      const length = bounce < within ? `under ${landscape.show(within, 2)}` : landscape.show(bounce, 2);
      return [headline, `${inside}, and the bounce across its kink, lr × slope, is small: ${length}.`];
    }
    if (a.holds !== null && settings.lr <= a.holds.rate) {
      return [headline, `${inside}, and the rate is below ${a.holds.formula} = ${digits(a.holds.rate)}, up to which it holds.`];
    }
    return [headline, `${inside}, and the steps are small enough to stay in it.`];
  }

  function tellMinimum(a) {
    const { landscape } = a;
    const point = landscape.attractors.find((p) => Math.abs(landscape.offset(a.last, p.value)) <= landscape.tolerance);
    const headline = `Settles at ${landscape.show(point.value)}, another minimum, not at the ${a.goalName}.`;
    if (a.startsInside) return [headline, `The steps left the ${a.goalName}'s basin, ${span(landscape, a.goal.basin)}, and came to rest elsewhere.`];
    const outside = `The start lies outside the ${a.goalName}'s basin, ${span(landscape, a.goal.basin)}`;
    if (!a.staysInOwn) return [headline, `${outside}; long steps left its own basin, too, and ended here.`];
    let why = `${outside}: downhill leads here.`;
    if (a.holds !== null && a.escapes !== null && a.escapes.rate > a.holds.rate) {
      why += ` A rate that does not rest here (above ${digits(a.escapes.rate)}) is more than the ${a.goalName} holds (${digits(a.holds.rate)}).`;
    }
    return [headline, why];
  }

  // The median step of the run's last tenth.
  function lastStep({ rules, run }) {
    const { values } = run, last = values.length - 1;
    const count = Math.min(last, gabordiag.tailLength(rules, last));
    const steps = Float64Array.from({ length: count }, (_, t) => Math.abs(values[last - t] - values[last - t - 1]));
    return steps.sort()[Math.floor(count / 2)];
  }

  // A length in one or two figures.
  const lengthWords = (landscape, length) => landscape.show(length, length * landscape.scale < 10 ? 1 : 0);

  function whyRestless(a) {
    const { settings, landscape, goal, holds, own } = a;
    if (!GRADIENT_DESCENT.includes(settings.optimizer)) {
      const name = STEP_WORDS[settings.optimizer];
      const fact = name === undefined ? "Its steps do not fade"
        : `${name} divides by the gradient's own size, so a flatter loss does not shorten its steps`;
      return `${fact}: at the end they are still about ${lengthWords(landscape, lastStep(a))} long.`;
    }
    if (!a.startsInside && a.staysInOwn) {
      const bound = a.escapes !== null && settings.lr > a.escapes.rate
        ? `, above ${a.escapes.formula} = ${digits(a.escapes.rate)} there,` : "";
      return `It never leaves the basin of ${landscape.show(own.value)}, where it starts: the rate${bound} is too large ` +
        "to rest and too small to get out.";
    }
    if (goal === null) return "The rate is too large for every minimum.";
    const basin = goal.basin === null ? null : goal.basin[1] - goal.basin[0];
    if (goal.slope !== null) {
      const bounce = (settings.lr * goal.slope) / (settings.optimizer === "sgd" ? 1 : 1 - settings.momentum);
      const length = lengthWords(landscape, bounce);
      if (basin !== null && bounce > basin / 2) {
        return `The slope of ${a.objective.name} does not fade at the ${a.goalName} (a kink): every step there is about ` +
          `${length} long, and its basin is only ${landscape.show(basin, 0)} wide.`;
      }
      if (bounce > landscape.tolerance && a.startsInside) {
        return `${a.objective.name} has a kink at the ${a.goalName}: its slope does not fade, so steps of about ${length} ` +
          "bounce across it for ever.";
      }
    }
    if (!a.startsInside && a.escapes !== null && settings.lr > a.escapes.rate) {
      const beyond = holds !== null && settings.lr > holds.rate ? `, and above the ${digits(holds.rate)} that the ${a.goalName} holds` : "";
      return `The start lies outside the ${a.goalName}'s basin, and the rate is above ${digits(a.escapes.rate)}, ` +
        `where its own minimum lets go${beyond}.`;
    }
    if (holds !== null && settings.lr > holds.rate) {
      return `The rate is above ${holds.formula} = ${digits(holds.rate)}: steps at the ${a.goalName} overshoot by more than they correct.`;
    }
    return `Its long steps never come to rest at the ${a.goalName}.`;
  }

  function symptomWords(a) {
    if (a.symptoms === 0) return "";
    const times = a.symptoms === 1 ? "Once" : `${a.symptoms} times`;
    return ` ${times} the loss went from good (below 30%) back to terrible (above 60%) in one step.`;
  }

  function tellUnfinished(a) {
    const { landscape } = a;
    const towards = landscape.attractorOf(a.last);
    const aim = towards === null ? ""
      : `On the way to ${landscape.show(towards.value)}, ${towards === a.goal ? `the ${a.goalName}` : `which is not the ${a.goalName}`}. `;
    return [`Still descending when the steps end, at ${landscape.show(landscape.wrap(a.last))}.`,
      `${aim}It needs more steps or a larger rate.`];
  }

  function tellNonfinite(a) {
    const { landscape, run } = a;
    const out = landscape.period === null
      ? run.values.findIndex((v) => Number.isFinite(v) && !(v >= landscape.low && v <= landscape.high)) : -1;
    if (out >= 0) {
      return [`Leaves the range ${span(landscape, [landscape.low, landscape.high])} at step ${out}.`,
        "This page knows the loss only inside; gabordiag optimize goes on outside."];
    }
    if (a.objective.isRoot && run.values.some((v) => v === a.objective.zero)) {
      return ["The gradient becomes 0/0 = NaN, and every later step with it.",
        `A root has no slope at its exact zero; torch says NaN as well. Start beside it.`];
    }
    return ["Runs off to infinity.", "The rate is too large for this momentum."];
  }

  const TELLERS = {
    reached: tellReached,
    local_minimum: tellMinimum,
    plateau: (a) => [`Hardly moves, at ${a.landscape.show(a.landscape.wrap(a.last))}, where there is no minimum.`,
      "The slope there is less than a thousandth of the landscape's steepest."],
    cycle: (a) => [`Repeats the same ${a.judged.period} values for ever.`, whyRestless(a) + symptomWords(a)],
    erratic: (a) => ["Jumps about for ever.", whyRestless(a) + symptomWords(a)],
    running: (a) => ["Runs off by whole turns; the loss repeats.", whyRestless(a) + symptomWords(a)],
    unfinished: tellUnfinished,
    frozen: () => ["Never moves.", "No gradient arrives: the loss is exactly flat where it starts."],
    nonfinite: tellNonfinite,
  };
})((globalThis.gabordiag ??= {}));
