// What do the layers of a VAE compute? Plain JavaScript: a runtime such as onnxruntime-web weighs 12 MB, more than the page.
// Numbers are in flat arrays, [C, H, W] for images and features, as in PyTorch.

// The tensors of a safetensors file: the length of its header in 8 bytes, the header in JSON, the numbers.
function readTensors(buffer) {
  const start = 8 + Number(new DataView(buffer).getBigUint64(0, true))
  const header = JSON.parse(new TextDecoder().decode(buffer.slice(8, start)))
  const types = { F32: Float32Array, I8: Int8Array, U8: Uint8Array }
  const tensors = {}
  for (const [name, { dtype, data_offsets: [from, to] }] of Object.entries(header)) {
    tensors[name] = new types[dtype](buffer.slice(start + from, start + to))
  }
  for (const name of Object.keys(header).filter((name) => `${name}.scale` in header)) { // 8 bits, a scale for 128 of them
    const scale = tensors[`${name}.scale`]
    tensors[name] = Float32Array.from(tensors[name], (value, i) => value * scale[i >> 7])
  }
  return tensors
}

// x -> bias + weights x. Four rows at a time, so that no sum waits for the one before it; missing rows are zeros.
function affine(weights, bias) {
  const rows = bias.length, columns = weights.length / rows, padded = 4 * Math.ceil(rows / 4)
  const w = new Float32Array(padded * columns), b = new Float32Array(padded)
  w.set(weights)
  b.set(bias)
  return (x, out = new Float32Array(padded)) => {
    for (let row = 0, at = 0; row < padded; row += 4, at += 4 * columns) {
      let first = b[row], second = b[row + 1], third = b[row + 2], fourth = b[row + 3]
      for (let i = 0, j = at; i < columns; i++, j++) {
        const value = x[i]
        first += w[j] * value
        second += w[j + columns] * value
        third += w[j + 2 * columns] * value
        fourth += w[j + 3 * columns] * value
      }
      out[row] = first
      out[row + 1] = second
      out[row + 2] = third
      out[row + 3] = fourth
    }
    return out.subarray(0, rows)
  }
}

// At each place of a grid, the pixels that lie at `taps` [down, right] from it, of all channels, become a vector, zero
// outside the image, and are multiplied by weights [channels out, channels in, taps]; `put` takes the channels out.
function stencil(taps, weights, bias) {
  const times = affine(weights, bias), patch = new Float32Array(weights.length / bias.length)
  const pixel = new Float32Array(4 * Math.ceil(bias.length / 4))
  return (x, side, stride, put) => {
    for (let row = 0; row < side; row += stride) {
      for (let column = 0; column < side; column += stride) {
        for (let tap = 0; tap < taps.length; tap++) {
          const down = row + taps[tap][0], right = column + taps[tap][1]
          const inside = down >= 0 && right >= 0 && down < side && right < side
          for (let i = tap, at = down * side + right; i < patch.length; i += taps.length, at += side * side) {
            patch[i] = inside ? x[at] : 0
          }
        }
        put(row, column, times(patch, pixel))
      }
    }
  }
}

const LAYERS = {
  Flatten: () => (x) => x,
  Unflatten: () => (x) => x,
  Linear: affine,
  GELU: () => (x) => x.map(gelu),

  // 3 x 3, stride 2, padding 1: half the side.
  Conv2d: (weights, bias) => {
    const around = [-1, 0, 1].flatMap((down) => [-1, 0, 1].map((right) => [down, right]))
    const apply = stencil(around, weights, bias), channels = weights.length / bias.length / 9
    return (x) => {
      const side = Math.sqrt(x.length / channels), area = side * side / 4, out = new Float32Array(bias.length * area)
      apply(x, side, 2, (row, column, pixel) => {
        for (let c = 0, at = (row * side / 2 + column) / 2; c < pixel.length; c++, at += area) out[at] = pixel[c]
      })
      return out
    }
  },

  // The transpose of that, with output padding 1: twice the side. An input pixel i reaches the outputs 2 i - 1 + k for
  // k = 0, 1, 2. So an even output 2 i sees i by k = 1 alone, an odd one 2 i + 1 sees i by k = 2 and i + 1 by k = 0.
  ConvTranspose2d: (weights, bias) => {
    const seen = [[[0, 1]], [[0, 2], [1, 0]]] // [offset of the input, k], by parity
    const phases = [0, 1, 2, 3].map((phase) => {
      const pairs = seen[phase >> 1].flatMap(([down, k]) => seen[phase & 1].map(([right, l]) => [down, right, 3 * k + l]))
      const part = Float32Array.from({ length: weights.length / 9 * pairs.length }, (_, i) => (
        weights[9 * Math.floor(i / pairs.length) + pairs[i % pairs.length][2]]
      ))
      return stencil(pairs, part, bias)
    })
    const channels = weights.length / bias.length / 9
    return (x) => {
      const side = Math.sqrt(x.length / channels), area = 4 * side * side, out = new Float32Array(bias.length * area)
      phases.forEach((apply, phase) => apply(x, side, 1, (row, column, pixel) => {
        const place = 2 * side * (2 * row + (phase >> 1)) + 2 * column + (phase & 1)
        for (let c = 0, at = place; c < pixel.length; c++, at += area) out[at] = pixel[c]
      }))
      return out
    }
  },
}

// x times the probability that a standard normal is below x.
function gelu(x) {
  return 0.5 * x * (1 + erf(x * Math.SQRT1_2))
}

// Abramowitz & Stegun 1964, 7.1.26; the error is below 1.5e-7.
function erf(x) {
  const t = 1 / (1 + 0.3275911 * Math.abs(x))
  const sum = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t
  return Math.sign(x) * (1 - sum * Math.exp(-x * x))
}

// A model as its description and tensors give it; latents may be longer than it needs.
function buildVAE(model, tensors) {
  const [encoder, decoder] = [model.encoder, model.decoder].map((layers) => layers.map(([kind, name]) => (
    LAYERS[kind](tensors[`${name}.weight`], tensors[`${name}.bias`])
  )))
  const run = (layers, x) => layers.reduce((value, layer) => layer(value), x)
  const logStdOf = model.posterior === "point" ? () => -30 : (x) => Math.min(x, 0) - Math.log1p(Math.exp(-Math.abs(x)))
  const pixelOf = model.likelihood === "gaussian"
    ? (x) => Math.min(Math.max(0.5 + x, 0), 1)
    : (x) => 1 / (1 + Math.exp(-x))
  return {
    ...model,
    tensors,

    // The posterior of an image, values 0..1.
    encode(image) {
      const out = run(encoder, image.map((value) => 2 * value - 1))
      return { mean: out.slice(0, model.latent_dim), logStd: out.slice(model.latent_dim).map(logStdOf) }
    },

    // The expected image of a latent, values 0..1.
    decode(latent) {
      return run(decoder, latent).map(pixelOf)
    },

    // KL of each dimension's Gaussian from the prior's marginal, nats.
    rates({ mean, logStd }) {
      const center = tensors["prior.mean"], width = tensors["prior.log_std"]
      return mean.map((value, i) => {
        const square = (value - center[i]) ** 2 + Math.exp(2 * logStd[i])
        return 0.5 * (square * Math.exp(-2 * width[i]) - 1) + width[i] - logStd[i]
      })
    },

    // The latent of noise in the model's mixture, of which `share`, 0..1, chooses a component; in N(0, I) without one.
    sample(noise, share) {
      const shares = tensors["prior.shares"], D = model.latent_dim
      if (!shares) return noise
      const component = shares.subarray(0, -1).filter((upTo) => upTo <= share).length
      return Float32Array.from({ length: D }, (_, row) => {
        let sum = tensors["prior.means"][component * D + row]
        for (let i = 0, at = (component * D + row) * D; i <= row; i++, at++) sum += tensors["prior.scales"][at] * noise[i]
        return sum
      })
    },
  }
}
