// Kernels from their formula, responses as sums of a few pictures, drawn on canvases in greys.

(function (gabordiag) {
  "use strict";

  function decode(text, make) {
    const raw = atob(text), bytes = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
    return make(bytes);
  }

  // The textbook kernel, row by row; x indexes columns, y rows.
  gabordiag.gaborKernel = function (filter, theta) {
    const { wavelength, sigma, psi, gamma, kernel_size: size } = filter;
    const half = (size - 1) / 2, cos = Math.cos(theta), sin = Math.sin(theta);
    const kernel = new Float64Array(size * size);
    for (let row = 0; row < size; row++) {
      for (let column = 0; column < size; column++) {
        const x = column - half, y = row - half;
        const across = x * cos + y * sin, along = y * cos - x * sin;
        const envelope = Math.exp(-(across * across + gamma * gamma * along * along) / (2 * sigma * sigma));
        kernel[row * size + column] = envelope * Math.cos((2 * Math.PI * across) / wavelength + psi);
      }
    }
    return kernel;
  };

  class Responses {
    // packed: the page's `pictures`.
    constructor(packed, period) {
      this.rows = packed.rows;
      this.columns = packed.columns;
      this.period = period;
      this.scales = packed.scales;
      this.cosines = packed.cosines;
      this.sines = packed.sines;
      this.components = decode(packed.components, (bytes) => new Int8Array(bytes.buffer));
      this.image = decode(packed.image, (bytes) => bytes);
      const { low, step } = packed.target_levels;
      this.target = decode(packed.target, (bytes) => Float32Array.from(bytes, (level) => low + step * level));
      this.sum = new Float32Array(this.rows * this.columns);
    }

    // The response (rows x columns) at one angle; overwritten by the next call.
    at(theta) {
      const phi = (2 * Math.PI * theta) / this.period, size = this.sum.length;
      this.sum.fill(0);
      this.scales.forEach((scale, j) => {
        let weight = 0;
        for (let k = 0; k < this.cosines[j].length; k++) {
          weight += this.cosines[j][k] * Math.cos(k * phi) + this.sines[j][k] * Math.sin(k * phi);
        }
        weight *= scale;
        for (let i = 0, from = j * size; i < size; i++) this.sum[i] += weight * this.components[from + i];
      });
      return this.sum;
    }
  }

  // Draws numbers in greys, low black, high white.
  gabordiag.drawGrey = function (canvas, values, columns, low, high) {
    const rows = values.length / columns;
    if (canvas.width !== columns) canvas.width = columns;
    if (canvas.height !== rows) canvas.height = rows;
    const context = canvas.getContext("2d"), picture = context.createImageData(columns, rows);
    for (let i = 0; i < values.length; i++) {
      // Uint8ClampedArray rounds and clamps.
      const grey = (255 * (values[i] - low)) / (high - low);
      picture.data[4 * i] = picture.data[4 * i + 1] = picture.data[4 * i + 2] = grey;
      picture.data[4 * i + 3] = 255;
    }
    context.putImageData(picture, 0, 0);
  };

  // The range that leaves out the darkest and brightest hundredth.
  gabordiag.greyRange = function (values) {
    const sorted = Float32Array.from(values).sort();
    const at = (share) => sorted[Math.round(share * (sorted.length - 1))];
    return [at(0.01), at(0.99)];
  };

  gabordiag.Responses = Responses;
})((globalThis.gabordiag ??= {}));
