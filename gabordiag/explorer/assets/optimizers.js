// The optimizers, operation for operation as torch.optim does them on one number, with its defaults.

(function (gabordiag) {
  "use strict";

  class Descent {
    // v <- beta v + g; value <- value - lr v, or - lr (g + beta v) for Nesterov. torch's first v is g,
    // as it is here.
    constructor(lr, momentum, isNesterov = false) {
      Object.assign(this, { lr, momentum, isNesterov, velocity: 0 });
    }

    step(value, gradient) {
      this.velocity = this.momentum * this.velocity + gradient;
      return value - this.lr * (this.isNesterov ? gradient + this.momentum * this.velocity : this.velocity);
    }
  }

  class Adam {
    constructor(lr) {
      Object.assign(this, { lr, mean: 0, square: 0, power1: 1, power2: 1 });
    }

    step(value, gradient) {
      // betas (0.9, 0.999), eps 1e-8.
      this.mean += (1 - 0.9) * (gradient - this.mean);
      this.square = 0.999 * this.square + (1 - 0.999) * gradient * gradient;
      this.power1 *= 0.9;
      this.power2 *= 0.999;
      const divisor = Math.sqrt(this.square) / Math.sqrt(1 - this.power2) + 1e-8;
      return value - ((this.lr / (1 - this.power1)) * this.mean) / divisor;
    }
  }

  class RMSprop {
    constructor(lr) {
      Object.assign(this, { lr, square: 0 });
    }

    step(value, gradient) {
      // alpha 0.99, eps 1e-8.
      this.square = 0.99 * this.square + (1 - 0.99) * gradient * gradient;
      return value - (this.lr * gradient) / (Math.sqrt(this.square) + 1e-8);
    }
  }

  const KINDS = {
    sgd: (lr) => new Descent(lr, 0),
    heavy_ball: (lr, momentum) => new Descent(lr, momentum),
    nesterov: (lr, momentum) => new Descent(lr, momentum, true),
    adam: (lr) => new Adam(lr),
    rmsprop: (lr) => new RMSprop(lr),
  };

  // settings: {optimizer, lr, momentum}.
  gabordiag.makeOptimizer = function (settings, lr = settings.lr) {
    return KINDS[settings.optimizer](lr, settings.momentum);
  };

  // One run, every step kept; it ends early, after the row that shows it, when the value is no
  // longer finite, or has left an interval on which alone the loss is known.
  gabordiag.descend = function (objective, settings) {
    const { start, steps } = settings;
    const values = new Float64Array(steps + 1), losses = values.slice(), gradients = values.slice();
    const optimizer = gabordiag.makeOptimizer(settings);
    let value = start, last = 0;
    for (let step = 0; step <= steps; step++) {
      const [loss, gradient] = objective.at(value);
      values[step] = value;
      losses[step] = loss;
      gradients[step] = gradient;
      last = step;
      if (!Number.isFinite(value)) break;
      if (step < steps) value = optimizer.step(value, gradient);
    }
    const length = last + 1;
    return {
      settings,
      objective,
      values: values.subarray(0, length),
      losses: losses.subarray(0, length),
      gradients: gradients.subarray(0, length),
    };
  };
})((globalThis.gabordiag ??= {}));
