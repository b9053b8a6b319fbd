// The page's controls: each section reads its own, computes with both models and draws. network.js has the layers.
const byId = (id) => document.getElementById(id)
const SIDE = 32, AREA = SIDE * SIDE, SAMPLES = 4, STEPS = 7
const shelf = [] // images to choose from
const vae = {} // by "fc" and "conv"
let longest = 0 // latent size of the two: one latent serves both
let noise // ε

// Uniform numbers from a seed, one at each call (mulberry32).
function uniform(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0
    let mixed = Math.imul(seed ^ (seed >>> 15), seed | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

// A vector from N(0, I) (Box & Muller 1958).
function normal(random) {
  return Float32Array.from({ length: longest }, () => (
    Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random())
  ))
}

const PATHS = {
  line: (start, end, share) => start.map((value, i) => value * (1 - share) + end[i] * share),

  // The angle grows evenly and so does the length (Shoemake 1985).
  arc: (start, end, share) => {
    const [from, to] = [start, end].map((latent) => Math.hypot(...latent))
    const cosine = start.reduce((sum, value, i) => sum + value * end[i], 0) / (from * to)
    const angle = Math.min(Math.max(Math.acos(Math.min(cosine, 1)), 1e-3), Math.PI - 1e-3)
    const length = from * (1 - share) + to * share
    const [a, b] = [Math.sin((1 - share) * angle) / from, Math.sin(share * angle) / to].map((w) => w * length / Math.sin(angle))
    return start.map((value, i) => a * value + b * end[i])
  },
}

function draw(canvas, image) {
  const pixels = new ImageData(SIDE, SIDE)
  for (let i = 0; i < AREA; i++) {
    for (let c = 0; c < 3; c++) pixels.data[4 * i + c] = 255 * image[c * AREA + i]
    pixels.data[4 * i + 3] = 255
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0)
}

// What a section's models make of `latents(model, name)`, one for each canvas of the model that `selector` finds.
function show(section, latents, selector = "canvas") {
  for (const [name, model] of Object.entries(vae)) {
    const canvases = byId(section).querySelectorAll(`.${name} ${selector}`)
    latents(model, name).forEach((latent, i) => draw(canvases[i], model.decode(latent)))
  }
}

const chosen = (name) => document.querySelector(`input[name=${name}]:checked`).value
const value = (id) => Number(byId(id).value)
const posterior = (entry, name) => entry.posteriors[name] ??= vae[name].encode(entry.image)
const ofBoth = (tell) => Object.values(vae).map((model) => `${model.name}: ${tell(model)}`).join("; ")

// By the id of a section: draw it anew, and say in a sentence what it shows.
const UPDATE = {
  encode() {
    const entry = shelf[chosen("image")], { image } = entry
    for (const canvas of [byId("editor"), ...entry.canvases]) draw(canvas, image)
    for (const [name, model] of Object.entries(vae)) {
      model.posterior = posterior(entry, name)
      model.latent = model.posterior.mean.map((mean, i) => mean + Math.exp(model.posterior.logStd[i]) * noise[i])
      model.rate = model.rates(model.posterior)
      model.decoded = model.decode(model.latent)
    }
    const most = (values) => Math.max(...Object.values(vae).flatMap((model) => Array.from(values(model))))
    const widest = Math.ceil(most(({ latent, posterior: { mean } }) => [...latent, ...mean].map(Math.abs)) + 1)
    const highest = Math.max(most((model) => model.rate), 0.1)
    for (const [name, model] of Object.entries(vae)) {
      draw(document.querySelector(`#encode .${name} canvas`), model.decoded)
      plot(document.querySelector(`.charts .${name}`), model, widest, highest)
    }
    const psnr = ({ decoded }) => -10 * Math.log10(decoded.reduce((sum, x, i) => sum + (x - image[i]) ** 2, 0) / (3 * AREA))
    const rate = (model) => model.rate.reduce((sum, nats) => sum + nats)
    return ofBoth((model) => `PSNR ${psnr(model).toFixed(1)} dB, rates add up to ${rate(model).toFixed(1)} nats`)
  },

  between() {
    const path = chosen("path"), share = value("share")
    for (const part of document.querySelectorAll("[data-path]")) part.hidden = part.dataset.path !== path
    show("between", (_, name) => [LATENT.between(share, name)])
    const [from, to] = ["from", "to"].map((end) => shelf[chosen(end)].name)
    return `${Math.round(100 * share)}% of the way from ${from} to ${to}, on the ${path} between their posterior means.`
  },

  samples() {
    const random = uniform(value("seed")), temperature = value("temperature"), prior = chosen("prior")
    const draws = Array.from({ length: SAMPLES }, () => [normal(random).map((x) => x * temperature), random()])
    show("samples", (model) => draws.map(([z, share]) => prior === "mixture" ? model.sample(z, share) : z))
    return `${SAMPLES} samples of each model from ${prior === "mixture" ? "its mixture" : "N(0, I)"}, ` +
      `seed ${value("seed")}, temperature ${temperature.toFixed(2)}.`
  },

  walk() {
    const amount = value("amount"), direction = byId("direction").selectedOptions[0], ones = direction.value === "ones"
    for (const part of document.querySelectorAll("[data-walk]")) part.hidden = (part.dataset.walk === "ones") !== ones
    show("walk", (_, name) => [LATENT.walk(amount, name)])
    return ones
      ? `Both models decode z = ${amount.toFixed(2)}·1.`
      : `${amount.toFixed(2)} standard deviations from the centre of the encodings, along: ${direction.text}.`
  },
}

// By the id of a section that is a path: the latent of a model at a place of the section's slider.
const LATENT = {
  between: (share, name) => PATHS[chosen("path")](...["from", "to"].map((end) => posterior(shelf[chosen(end)], name).mean), share),

  walk: (amount, name) => {
    const { tensors, latent_dim } = vae[name], direction = byId("direction").value
    if (direction === "ones") return new Float32Array(latent_dim).fill(amount)
    const step = tensors["walks.steps"].subarray(direction * latent_dim)
    return tensors["walks.center"].map((center, i) => center + amount * step[i])
  },
}

// The whole path in a few images, once its section was left alone for a moment.
function overview(section) {
  const { min, max } = byId(section).querySelector(".slider input"), last = STEPS - 1
  clearTimeout(overview[section])
  overview[section] = setTimeout(() => {
    const places = Array.from({ length: STEPS }, (_, i) => (min * (last - i) + max * i) / last)
    show(section, (_, name) => places.map((place) => LATENT[section](place, name)), ".strip canvas")
  }, 100)
}

// Numbers of each dimension as one path of bars, [low, high] in units of the chart.
const bars = (ranges) => ranges.map(([low, high], i) => `M${i + 0.1},${-low}h.8V${-high}h-.8z`).join("")

function plot(figure, { order, posterior: { mean, logStd }, latent, rate }, widest, highest) {
  const set = (kind, range) => {
    figure.querySelector(`.${kind}`).setAttribute("d", bars(Array.from(order, (i) => range(i))))
  }
  const within = (center, half) => [(center - half) / widest, (center + half) / widest]
  set("std", (i) => within(mean[i], Math.exp(logStd[i])))
  set("mean", (i) => within(mean[i], 0.015 * widest))
  set("z", (i) => within(latent[i], 0.025 * widest))
  set("rate", (i) => [0, rate[i] / highest])
  const [latents, rates] = figure.querySelectorAll(".chart")
  Object.assign(latents.dataset, { top: widest, bottom: -widest })
  rates.dataset.top = highest.toFixed(1)
}

// Mark the dimension of a rank in both models' charts, and tell its numbers.
function lookAt() {
  const rank = value("rank") - 1
  byId("rank").nextElementSibling.textContent = rank + 1
  for (const marker of document.querySelectorAll(".marker")) marker.setAttribute("d", `M${rank},-9h1v18h-1z`)
  byId("dimension").textContent = ofBoth(({ order, posterior: { mean, logStd }, latent, rate }) => {
    const i = order[rank]
    if (i === undefined) return "no such dimension"
    const numbers = { mean: mean[i], "standard deviation": Math.exp(logStd[i]), z: latent[i], rate: rate[i] }
    return `dimension ${i}, ` + Object.entries(numbers).map(([name, x]) => `${name} ${x.toFixed(2)}`).join(", ")
  })
}

function refresh(section, slid = false) {
  for (const slider of byId(section).querySelectorAll(".slider input")) slider.nextElementSibling.textContent = slider.value
  byId(section).querySelector("output").textContent = UPDATE[section]()
  if (section === "encode") lookAt()
  if (section in LATENT && !slid) overview(section)
}

// Put an image where images are chosen; it is chosen for the encoder at once.
function add(image, name, place = "prepend") {
  const entry = { name, image, original: image.slice(), canvases: [], posteriors: {} }, number = shelf.push(entry) - 1
  for (const group of document.querySelectorAll(".shelf")) {
    const label = document.createElement("label")
    label.innerHTML = `<input type="radio" name="${group.dataset.name}" value="${number}"><canvas width="32" height="32"></canvas>`
    label.firstChild.ariaLabel = name
    label.firstChild.checked = group.dataset.name === "image" || number === { from: 1, to: 2 }[group.dataset.name] || !number
    group.lastChild[place](label)
    entry.canvases.push(label.lastChild)
    draw(label.lastChild, image)
  }
}

// A file of the user's, as a viewer shows it on white, 32 x 32.
async function load(file) {
  try {
    if (!file) throw new Error("found no image in that")
    const bitmap = await createImageBitmap(file).catch(() => { throw new Error(`${file.name}: is no image that can be read`) })
    const context = new OffscreenCanvas(SIDE, SIDE).getContext("2d")
    context.fillStyle = "white"
    context.fillRect(0, 0, SIDE, SIDE)
    context.imageSmoothingQuality = "high"
    context.drawImage(bitmap, 0, 0, SIDE, SIDE)
    const { data } = context.getImageData(0, 0, SIDE, SIDE)
    add(Float32Array.from({ length: 3 * AREA }, (_, i) => data[4 * (i % AREA) + Math.floor(i / AREA)] / 255), file.name)
    byId("error").textContent = ""
    refresh("encode")
  } catch (error) {
    byId("error").textContent = error.message
  }
}

// Let the chosen image's pixels within `radius` of one of some places [x, y], in pixels, have the colour.
function paint(places, radius = value("size") / 2 + 0.2) {
  const { image } = shelf[chosen("image")], color = byId("color").value
  for (let i = 0; i < AREA; i++) {
    const column = i % SIDE + 0.5, row = Math.floor(i / SIDE) + 0.5
    if (!places.some(([x, y]) => Math.hypot(column - x, row - y) <= radius)) continue
    for (let c = 0; c < 3; c++) image[c * AREA + i] = parseInt(color.slice(1 + 2 * c, 3 + 2 * c), 16) / 255
  }
  changed()
}

// The chosen image has other pixels than before.
function changed() {
  shelf[chosen("image")].posteriors = {}
  refresh("encode")
  if ([chosen("from"), chosen("to")].includes(chosen("image"))) refresh("between")
}

function listen() {
  const editor = byId("editor"), brush = { x: SIDE / 2, y: SIDE / 2 }
  for (const section of Object.keys(UPDATE)) byId(section).addEventListener("input", ({ target }) => {
    if (target.id === "rank") lookAt()
    else if (!["color", "size", "file"].includes(target.id)) refresh(section, target.type === "range")
  })
  editor.addEventListener("pointerdown", (event) => editor.setPointerCapture(event.pointerId))
  for (const kind of ["pointerdown", "pointermove"]) editor.addEventListener(kind, (event) => {
    const passed = [event, ...event.getCoalescedEvents()] // since the frame before
    if (event.buttons) paint(passed.map(({ offsetX, offsetY }) => [offsetX, offsetY].map((x) => x / editor.clientWidth * SIDE)))
  })
  editor.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], " ": [0, 0] }[event.key]
    if (!move) return
    event.preventDefault()
    brush.x = Math.min(Math.max(brush.x + move[0], 0), SIDE - 1)
    brush.y = Math.min(Math.max(brush.y + move[1], 0), SIDE - 1)
    Object.assign(byId("brush").style, { left: `${brush.x / SIDE * 100}%`, top: `${brush.y / SIDE * 100}%` })
    if (event.key === " ") paint([[brush.x + 0.5, brush.y + 0.5]])
  })
  byId("fill").onclick = () => paint([[0, 0]], Infinity)
  byId("restore").onclick = () => { shelf[chosen("image")].image.set(shelf[chosen("image")].original); changed() }
  byId("draw").onclick = () => { noise = normal(Math.random); refresh("encode") }
  byId("still").onclick = () => { noise.fill(0); refresh("encode") }
  byId("file").onchange = ({ target }) => load(target.files[0])
  document.addEventListener("paste", ({ clipboardData }) => { if (clipboardData.files.length) load(clipboardData.files[0]) })
  document.addEventListener("dragover", (event) => event.preventDefault())
  document.addEventListener("drop", (event) => { event.preventDefault(); load(event.dataTransfer.files[0]) })
  for (const chart of document.querySelectorAll(".chart")) chart.addEventListener("pointermove", ({ offsetX }) => {
    byId("rank").value = 1 + Math.floor(offsetX / chart.clientWidth * longest)
    lookAt()
  })
}

async function unpack(id) {
  const bytes = Uint8Array.from(atob(byId(id).textContent), (character) => character.charCodeAt(0))
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))
  return readTensors(await new Response(stream).arrayBuffer())
}

async function start() {
  const models = JSON.parse(byId("models").textContent)
  for (const name of ["fc", "conv"]) {
    const model = models[name]
    vae[name] = buildVAE(model, await unpack(name))
    longest = Math.max(longest, model.latent_dim)
    const rates = vae[name].tensors.rates ?? new Float32Array(model.latent_dim)
    vae[name].order = Array.from(rates.keys()).sort((i, j) => rates[j] - rates[i])
  }
  noise = new Float32Array(longest)
  add(new Float32Array(3 * AREA).fill(1), "blank", "append")
  const { images = [] } = await unpack("shelf")
  for (let i = 0; i < images.length; i += 3 * AREA) {
    add(Float32Array.from(images.subarray(i, i + 3 * AREA), (level) => level / 255), `validation image ${shelf.length}`, "append")
  }
  if (images.length) document.querySelector("input[name=image][value='1']").checked = true
  listen()
  for (const section of Object.keys(UPDATE)) refresh(section)
  window.vae = vae // for who tests the page
}

start().catch((error) => { byId("error").textContent = `The page cannot be shown: ${error.message}` })
