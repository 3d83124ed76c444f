// The loss and its slope from some tens of coefficients, in float64; and the critical points.
//
// The smooth loss is S = w q (gabordiag/explorer/exploration.py): w vanishes at the zero of the loss
// like the square of the distance and is known exactly, q is a series. A root-type loss is sqrt(S),
// taken as |sqrt(w)| sqrt(q), which keeps all digits beside the zero.

(function (gabordiag) {
  "use strict";

  // q and dq/dphi of a Fourier series sum_k a_k cos(k phi) + b_k sin(k phi), by Horner's rule in
  // z = exp(i phi): q = Re sum_k (a_k - i b_k) z^k.
  function fourier(cosines, sines, phi) {
    const x = Math.cos(phi), y = Math.sin(phi);
    let re = 0, im = 0, slopeRe = 0, slopeIm = 0;
    for (let k = cosines.length - 1; k >= 0; k--) {
      const a = cosines[k], b = -sines[k];
      const r = re * x - im * y + a;
      im = re * y + im * x + b;
      re = r;
      const s = slopeRe * x - slopeIm * y + k * a;
      slopeIm = slopeRe * y + slopeIm * x + k * b;
      slopeRe = s;
    }
    // d/dphi z^k = i k z^k.
    return [re, -slopeIm];
  }

  // q and dq/dx of sum_k a_k T_k(x), by Clenshaw's recurrence and its derivative.
  function chebyshev(a, x) {
    let b1 = 0, b2 = 0, d1 = 0, d2 = 0;
    for (let k = a.length - 1; k >= 1; k--) {
      const d = 2 * b1 + 2 * x * d1 - d2;
      d2 = d1;
      d1 = d;
      const b = a[k] + 2 * x * b1 - b2;
      b2 = b1;
      b1 = b;
    }
    return [a[0] + x * b1 - b2, b1 + x * d1 - d2];
  }

  // q, dq/dvalue, the root h of w (with its sign), and dh/dvalue; w = h^2.
  function periodicParts(series) {
    const { period, origin, zero, cosines, sines } = series;
    const rate = (2 * Math.PI) / period;
    return function (value) {
      const distance = value - origin;
      // Whole periods are subtracted first, so that values far away lose no digits.
      const phi = rate * (distance - period * Math.floor(distance / period));
      const [q, slope] = fourier(cosines, sines, phi);
      if (zero === null) return [q, slope * rate, 1, 0];
      // 1 - cos(phi) = 2 sin(phi / 2)^2, with sin(phi / 2) >= 0 for phi in [0, 2 pi).
      const nearest = distance - period * Math.round(distance / period);
      const half = (rate * nearest) / 2;
      const h = Math.SQRT2 * Math.sin(half), dh = (Math.SQRT2 * Math.cos(half) * rate) / 2;
      return [q, slope * rate, h, dh];
    };
  }

  function intervalParts(series) {
    const { low, high, zero, cosines } = series;
    const middle = (low + high) / 2, half = (high - low) / 2;
    return function (value) {
      if (!(value >= low && value <= high)) return [NaN, NaN, NaN, NaN];
      const [q, slope] = chebyshev(cosines, (middle - value) / half);
      if (zero === null) return [q, -slope / half, 1, 0];
      return [q, -slope / half, (value - zero) / half, 1 / half];
    };
  }

  class Objective {
    // spec: one entry of the page's `losses`.
    constructor(name, spec) {
      this.name = name;
      this.isRoot = spec.is_root;
      this.squared = spec.squared;
      this.scans = spec.scans;
      this.beside = spec.beside_target;
      this.landscape = new Landscape(spec.landscape, spec.bounds);
      this.parts = spec.series.period === null ? intervalParts(spec.series) : periodicParts(spec.series);
      this.origin = spec.series.origin;
      this.degree = spec.series.cosines.length;
      this.zero = spec.series.zero;
      this.tables = null;
    }

    // [loss, gradient]; at the zero of a root the gradient is 0/0 = NaN, as in torch.
    at(value) {
      const [q, slope, h, dh] = this.parts(value);
      if (!this.isRoot) return [h * h * q, 2 * h * dh * q + h * h * slope];
      const root = Math.sqrt(Math.max(q, 0));
      const sign = h > 0 ? 1 : h < 0 ? -1 : NaN;
      return [Math.abs(h) * root, (sign * (2 * dh * q + h * slope)) / (2 * root)];
    }

    loss(value) {
      return this.at(value)[0];
    }

    // The gradient as quintics on equal cells, for the map's millions of evaluations. Cells of a
    // period begin at the zero, so that a kink lies between two of them; an interval's tables leave
    // the sign of a root's slope to the caller's side of the zero.
    tabulate() {
      if (this.tables !== null) return this.tables;
      const { period, low, high } = this.landscape;
      let cells = 512;
      while (cells < 64 * this.degree && cells < 16384) cells *= 2;
      const first = period === null ? low : this.origin;
      const width = (period === null ? high - low : period) / cells;
      const flips = this.isRoot && this.zero !== null && period === null;
      const coefficients = new Float64Array(6 * cells);
      const samples = new Float64Array(6);
      for (let cell = 0; cell < cells; cell++) {
        for (let j = 0; j < 6; j++) {
          const value = first + width * (cell + NODES[j]);
          let slope = this.at(value)[1];
          if (flips && value < this.zero) slope = -slope;
          samples[j] = slope;
        }
        for (let power = 0; power < 6; power++) {
          let sum = 0;
          for (let j = 0; j < 6; j++) sum += TO_POWERS[power][j] * samples[j];
          coefficients[6 * cell + power] = sum;
        }
      }
      this.tables = { first, width, cells, coefficients, flips, periodic: period !== null };
      return this.tables;
    }

    // Returns the gradient as a function of one value, from the tables.
    quickGradient() {
      const { first, width, cells, coefficients: c, flips, periodic } = this.tabulate();
      const zero = this.zero, kink = this.isRoot && zero !== null;
      const perWidth = 1 / width;
      return function (value) {
        let position = (value - first) * perWidth;
        const whole = Math.floor(position);
        position -= whole;
        let cell = whole;
        if (periodic) {
          cell = whole - cells * Math.floor(whole / cells);
        } else if (!(whole >= 0 && whole < cells)) {
          return NaN;
        }
        if (!(cell >= 0)) return NaN;
        if (kink && value === zero) return NaN;
        const i = 6 * cell;
        const slope = c[i] + position * (c[i + 1] + position * (c[i + 2] + position * (c[i + 3]
          + position * (c[i + 4] + position * c[i + 5]))));
        return flips && value < zero ? -slope : slope;
      };
    }
  }

  // Chebyshev's six points of a cell, and the matrix from values there to powers of the position.
  const NODES = Array.from({ length: 6 }, (_, j) => 0.5 - 0.5 * Math.cos((Math.PI * (2 * j + 1)) / 12));
  const TO_POWERS = lagrangePowers(NODES);

  // Row p, column j: the coefficient of x^p in the polynomial that is 1 at node j, 0 at the others.
  function lagrangePowers(nodes) {
    const rows = nodes.map(() => new Float64Array(nodes.length));
    nodes.forEach((node, j) => {
      let polynomial = [1];
      let scale = 1;
      nodes.forEach((other, i) => {
        if (i === j) return;
        const next = new Array(polynomial.length + 1).fill(0);
        polynomial.forEach((c, p) => {
          next[p + 1] += c;
          next[p] -= c * other;
        });
        polynomial = next;
        scale *= node - other;
      });
      polynomial.forEach((c, p) => (rows[p][j] = c / scale));
    });
    return rows;
  }

  // The critical points, with what `Landscape` and `Parameter` of the package answer about them.
  class Landscape {
    // json: the landscape; bounds: what plain descent holds at each of its points, or null.
    constructor(json, bounds) {
      [this.low, this.high] = json.range;
      this.period = json.period;
      this.goal = json.goal;
      this.goalName = json.target === null ? "lowest minimum" : "target";
      this.tolerance = json.tolerance;
      this.isAngle = json.unit === "rad";
      this.unit = this.isAngle ? "°" : json.unit;
      this.scale = this.isAngle ? 180 / Math.PI : 1;
      this.points = json.critical_points.map((point, index) => ({ ...point, bound: bounds[index] }));
      this.smallestLoss = json.smallest_loss;
      this.largestLoss = json.largest_loss;
      this.largestGradient = json.largest_gradient;
      const { resolution } = json.certificate;
      const width = resolution === null ? "" : `${Number((resolution * this.scale).toPrecision(2))}${this.unit}`;
      this.completeness = json.certified
        ? "The list of minima is proven complete."
        : width ? `Resolved to ${width}; no dip wider than that was missed.` : "The list of minima may be incomplete.";
      this.attractors = this.points.filter((p) => p.kind === "minimum" || p.kind === "kink");
    }

    // To the nearest copy of the point; halves are rounded to even, as NumPy does.
    offset(value, point) {
      const difference = value - point;
      if (this.period === null) return difference;
      return difference - this.period * roundHalfEven(difference / this.period);
    }

    // Into [-P/2, P/2).
    wrap(value) {
      if (this.period === null) return value;
      const half = this.period / 2;
      const wrapped = value - this.period * Math.floor((value + half) / this.period);
      return wrapped >= half ? -half : Math.max(wrapped, -half);
    }

    // The copy of the point's basin that holds the value, or null.
    basinAround(point, value) {
      if (point.basin === null) return null;
      const [low, high] = point.basin;
      const shift = this.period === null ? 0 : this.period * Math.floor((value - low) / this.period);
      return low + shift <= value && value <= high + shift ? [low + shift, high + shift] : null;
    }

    attractorOf(value) {
      return this.attractors.find((point) => this.basinAround(point, value) !== null) ?? null;
    }

    // The minimum or kink where a run should end.
    get goalPoint() {
      if (this.goal === null) return null;
      return this.attractors.find((p) => Math.abs(this.offset(p.value, this.goal)) <= this.tolerance) ?? null;
    }

    // For people: degrees, or three digits and the unit.
    show(value, digits = 1) {
      // Zero has no sign.
      if (this.isAngle) return `${(value * this.scale).toFixed(digits).replace(/^-(?=[0.]*$)/, "").replace("-", "−")}°`;
      const isRounding = Math.abs(value) < 1e-12 * (this.high - this.low);
      return `${gabordiag.digits(isRounding ? 0 : value, 2 + digits)}${this.unit ? " " + this.unit : ""}`;
    }
  }

  function roundHalfEven(x) {
    const rounded = Math.round(x);
    return rounded - x === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
  }

  // A number in a few digits, for people.
  gabordiag.digits = function (value, count = 3) {
    if (value === 0 || !Number.isFinite(value)) return String(value);
    const size = Math.abs(value);
    if (size >= 1e-4 && size < 1e5) return String(Number(value.toPrecision(count))).replace("-", "−");
    const [mantissa, exponent] = value.toExponential(count - 1).split("e");
    const raised = exponent.replace("+", "").replace(/[-0-9]/g, (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]);
    return `${mantissa}×10${raised}`.replace("-", "−");
  };

  gabordiag.Objective = Objective;
  gabordiag.Landscape = Landscape;
})((globalThis.gabordiag ??= {}));
