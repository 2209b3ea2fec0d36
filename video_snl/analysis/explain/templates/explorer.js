// The page: what is chosen, the panels (a network each), and what follows from both.

const stored = JSON.parse(document.getElementById("explanations").textContent);
const palettes = { sequential: bytes(stored.palettes.sequential),
  diverging: bytes(stored.palettes.diverging) };
const chosen = { mode: "attention", kind: null, scale: "own", smooth: false,
  point: { time: 0, y: 0.5, x: 0.5 } };

const find = (element, selector) => element.querySelector(selector);

function panelOf(element) {
  const data = stored.explanations[Number(element.dataset.panel)];
  const frames = [...element.querySelectorAll(".frame")];
  frames.forEach((frame) => {
    const image = find(frame, "img");
    image.src = stored.pictures[Number(image.dataset.picture)];
    sizeCanvas(find(frame, "canvas"), data.width, data.height);
  });
  return { element, frames, data, blocks: data.blocks.map(blockOf),
    gradcam: gridOf(data.gradcam), at: 0, pointed: null };
}

const panels = [...document.querySelectorAll(".panel")].map(panelOf);
const blockIn = (panel) => panel.blocks[panel.at] || null;
const mapIn = (panel) => { const block = blockIn(panel); return block && block.maps[chosen.kind]; };

function placeIn(panel) {
  const block = blockIn(panel);
  return block && placeAt(block.cells, chosen.point, panel.frames.length);
}

// What the panel's colours show, or null: {cells, values, low, high, signed}.
function fieldOf(panel) {
  const block = blockIn(panel);
  if (chosen.mode === "gradcam") return panel.gradcam;
  if (chosen.mode !== "attention") return block && block[chosen.mode];
  const map = mapIn(panel);
  if (!map) return null;
  const index = numberOf(block.cells, placeIn(panel));
  return { cells: block.cells, values: rowValues(map.rows, index), low: map.rows.low[index],
    high: map.rows.high[index], signed: map.signed, index };
}

// All that the scale of a panel could be common to.
function rangesOf(panel) {
  const block = blockIn(panel), map = mapIn(panel);
  if (chosen.mode === "attention") return map ? [...map.rows.low, ...map.rows.high] : [];
  if (!block) return [];
  return ["before", "after"].flatMap((name) => (block[name]
    ? [block[name].low, block[name].high] : []));
}

function scaleOf(panel, field) {
  if (chosen.mode === "gradcam") return { low: 0, high: 1 };
  const own = () => [field.low, field.high];
  const ends = { own, range: own, map: () => rangesOf(panel),
    all: () => panels.flatMap(rangesOf) }[chosen.scale]();
  const [low, high] = [smallest(ends), largest(ends)];
  if (chosen.mode !== "attention") return { low, high };
  const signed = chosen.scale === "all"
    ? panels.some((other) => mapIn(other) && mapIn(other).signed) : field.signed;
  const reach = Math.max(-low, high, 0);
  if (signed) return { low: -reach, high: reach, signed };
  return { low: chosen.scale === "range" ? Math.max(low, 0) : 0, high: reach };
}

const LIMITS = { attention: { own: "the largest of this position",
  range: "the largest of this position",
  map: "the largest of all positions of this block",
  all: "the largest of all positions in all networks" },
other: { own: "its own smallest and largest", range: "its own smallest and largest",
  map: "those before and after the block",
  all: "those before and after the blocks of all networks" } };

function meaningOf(panel, scale) {
  if (chosen.mode === "gradcam") return "Grad-CAM: what speaks for the predicted class, up to 1.";
  if (chosen.mode !== "attention") {
    return `Length of the features ${chosen.mode} the block; ends: ${LIMITS.other[chosen.scale]}.`;
  }
  const label = stored.kinds[chosen.kind];
  const limit = LIMITS.attention[chosen.scale];
  return scale.signed
    ? `${label}: some weights are negative, so the colours are symmetric around 0, up to ${limit}.`
    : `${label}, from ${chosen.scale === "range" ? "the smallest" : "0"} to ${limit}.`;
}

const MISSING = { attention: "This block has no such weights.",
  gradcam: "There is no Grad-CAM of this network.",
  before: "There is no such feature map.", after: "There is no such feature map." };

function showField(panel, field) {
  const missing = find(panel.element, ".missing");
  // That there is no block at all is said already.
  missing.hidden = Boolean(field) || (!panel.blocks.length && chosen.mode !== "gradcam");
  missing.textContent = MISSING[chosen.mode];
  find(panel.element, ".legend-of-bar").hidden = !field;
  const scale = field ? scaleOf(panel, field) : null;
  const palette = palettes[scale && scale.signed ? "diverging" : "sequential"];
  panel.frames.forEach((frame, at) => drawField(find(frame, "canvas"), field, at, scale, palette,
    chosen.smooth));
  if (!field) return;
  drawBar(find(panel.element, ".bar"), palette);
  const ticks = { low: scale.low, middle: (scale.low + scale.high) / 2, high: scale.high };
  for (const [name, value] of Object.entries(ticks)) {
    const tick = find(panel.element, `.${name}`);
    tick.textContent = number(value);
    tick.dataset.value = value;
  }
  find(panel.element, ".meaning").textContent = meaningOf(panel, scale);
}

const placeText = ([time, row, column]) => `(time ${time}, row ${row}, column ${column})`;

function showPointed(panel, field) {
  const place = field && panel.pointed
    && placeAt(field.cells, panel.pointed, panel.frames.length);
  panel.frames.forEach((frame, at) => placeBox(find(frame, ".pointed"), field && field.cells,
    place, at));
  const output = find(panel.element, ".pointer");
  const value = place ? field.values[numberOf(field.cells, place)] : "";
  output.textContent = place ? `Under the pointer ${placeText(place)}: ${number(value)}.` : "";
  output.dataset.place = place ? place.join(" ") : "";
  output.dataset.value = value;
}

function showSelected(panel) {
  const block = blockIn(panel), place = placeIn(panel), map = mapIn(panel);
  const readout = find(panel.element, ".readout");
  readout.hidden = !block;
  const weights = block && map && chosen.mode === "attention" ? { block, place, map } : null;
  const top = weights && placeOf(block.cells, map.strongest[numberOf(block.cells, place)]);
  const looks = weights && map.total[numberOf(block.cells, place)] > 0;
  panel.frames.forEach((frame, at) => {
    placeBox(find(frame, ".selected"), block && block.cells, place, at);
    placeBox(find(frame, ".strongest"), block && block.cells, looks ? top : null, at);
    frame.classList.toggle("own", Boolean(block) && timeOf(block.cells, at) === place[0]);
  });
  if (!block) return;
  readout.dataset.place = place.join(" ");
  const span = block.cells.times[place[0]], size = dimensions(block.cells).join("\u00a0×\u00a0");
  find(readout, ".where").textContent = `Position ${placeText(place)} of ${size}, `
    + `${framesText(span, panel.frames.length)}.`;
  showWeights(panel, readout, weights, top, looks);
}

function showWeights(panel, readout, weights, top, looks) {
  find(readout, ".looks").hidden = !looks;
  find(readout, ".reach").textContent = weights && !looks
    ? "Every weight of this position is zero: it looks nowhere." : "";
  find(panel.element, ".by-time").hidden = !looks
    || dimensions(weights.block.cells)[0] === 1;
  for (const name of ["strongest", "weight", "ownShare"]) delete readout.dataset[name];
  if (!looks) return;
  const { block, place, map } = weights, index = numberOf(block.cells, place);
  const [low, high] = [map.rows.low[index], map.rows.high[index]];
  const weight = high >= -low ? high : low;
  const times = block.cells.times, count = map.rows.levels.length / map.rows.low.length;
  const shares = map.shares.subarray(index * times.length, (index + 1) * times.length);
  Object.assign(readout.dataset, { strongest: top.join(" "), weight, ownShare: shares[place[0]] });
  const target = top.join() === place.join() ? "itself"
    : `${placeText(top)}, ${framesText(times[top[0]], panel.frames.length)}`;
  const ratio = number(Math.abs(weight) * count / map.total[index]);
  find(readout, ".most").textContent = `Looks most at ${target}: weight ${number(weight)}, `
    + `${ratio} times the mean${map.signed ? " size" : ""} of its row.`;
  if (times.length === 1) return;
  const own = framesText(times[place[0]], panel.frames.length);
  find(readout, ".reach").textContent = `${percent(shares[place[0]])} of the weight is in its own `
    + `${own}, ${percent(1 - shares[place[0]])} in other frames.`;
  showTimes(panel, times, shares);
}

function showTimes(panel, times, shares) {
  const entries = times.flatMap((span, time) => {
    const [label, track, fill, share] = ["span", "span", "span", "span"].map(
      (name) => document.createElement(name));
    label.textContent = framesText(span, panel.frames.length);
    track.className = "track";
    fill.className = "fill";
    fill.style.width = `${100 * shares[time]}%`;
    track.append(fill);
    share.className = "number";
    share.textContent = percent(shares[time]);
    return [label, track, share];
  });
  find(panel.element, ".times").replaceChildren(...entries);
}

function show() {
  for (const panel of panels) {
    const field = fieldOf(panel);
    showField(panel, field);
    showPointed(panel, field);
    showSelected(panel);
  }
}

// Which point of the clip an event is at, or null between the frames.
function pointAt(panel, event) {
  const picture = event.target.closest(".picture");
  if (!picture) return null;
  const box = picture.getBoundingClientRect();
  const frame = Number(picture.closest(".frame").dataset.frame);
  return { time: (frame + 0.5) / panel.frames.length, y: (event.clientY - box.top) / box.height,
    x: (event.clientX - box.left) / box.width };
}

const STEPS = { ArrowLeft: [0, 0, -1], ArrowRight: [0, 0, 1], ArrowUp: [0, -1, 0],
  ArrowDown: [0, 1, 0], PageUp: [-1, 0, 0], PageDown: [1, 0, 0] };

function stepped(panel, event) {
  const step = STEPS[event.key], block = blockIn(panel);
  if (!step || !block || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  const sizes = dimensions(block.cells);
  const place = placeIn(panel).map((at, axis) => Math.min(Math.max(at + step[axis], 0),
    sizes[axis] - 1));
  chosen.point = pointOf(block.cells, place, panel.frames.length);
  show();
}

// The same block of the other networks follows, where they have it.
function blockChosen(panel, at) {
  panel.at = at;
  for (const other of panels) {
    const same = other.data.blocks.findIndex((block) => block.position
      === blockIn(panel).position && block.unit === blockIn(panel).unit);
    if (other === panel || same < 0) continue;
    other.at = same;
    find(other.element, ".block-choice").value = String(same);
  }
  show();
}

function listen(panel) {
  const strip = find(panel.element, ".strip"), choice = find(panel.element, ".block-choice");
  const pointed = (point) => { panel.pointed = point; showPointed(panel, fieldOf(panel)); };
  strip.addEventListener("click", (event) => {
    const point = pointAt(panel, event);
    if (point) { chosen.point = point; show(); }
  });
  strip.addEventListener("pointermove", (event) => pointed(pointAt(panel, event)));
  strip.addEventListener("pointerleave", () => pointed(null));
  strip.addEventListener("keydown", (event) => stepped(panel, event));
  if (choice) choice.addEventListener("change", () => blockChosen(panel, Number(choice.value)));
}

function choose(name, value) {
  chosen[name] = value;
  if (name === "size") {
    document.body.classList.remove("small", "medium", "large");
    document.body.classList.add(value);
  }
  for (const of of ["kind", "scale"]) {
    const field = document.getElementById(`${of}-choice`);
    if (field) field.disabled = chosen.mode !== "attention"
      && (of === "kind" || chosen.mode === "gradcam");
  }
  show();
}

function opacityChosen(value) {
  document.querySelectorAll(".picture canvas").forEach((canvas) => {
    canvas.style.opacity = value / 100;
  });
  document.getElementById("opacity-value").textContent = `${value}\u00a0%`;
}

// The strongest place of Grad-CAM is a better first position than a corner.
function firstPoint() {
  const panel = panels.find((one) => one.gradcam), field = panel && panel.gradcam;
  if (!field) return { time: 0, y: 0.5, x: 0.5 };
  const at = field.values.indexOf(largest(field.values));
  return pointOf(field.cells, placeOf(field.cells, at), panel.frames.length);
}

function start() {
  const opacity = document.getElementById("opacity"), smooth = document.getElementById("smooth");
  chosen.point = firstPoint();
  panels.forEach(listen);
  document.querySelectorAll(".controls input[type=radio]").forEach((input) => {
    input.addEventListener("change", () => choose(input.name, input.value));
    if (input.checked) choose(input.name, input.value); // Also what a browser kept of a reload.
  });
  opacity.addEventListener("input", () => opacityChosen(opacity.value));
  smooth.addEventListener("change", () => choose("smooth", smooth.checked));
  chosen.smooth = smooth.checked;
  opacityChosen(opacity.value);
  show();
}

start();
