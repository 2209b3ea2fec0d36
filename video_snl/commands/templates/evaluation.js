// The cells of the confusion matrix: which of them has the focus, and what is in the chosen one.
const data = JSON.parse(document.getElementById("samples").textContent);
const panel = document.getElementById("cell");
const matrix = document.getElementById("matrix");
const buttons = new Map();
let chosen = null;

const plural = (count) => `${count} ${data.unit}${count === 1 ? "" : "s"}`;
const place = (button) => button.dataset.cell.split(",").map(Number);

function element(name, text, className) {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function title(row, column) {
  const said = row === column ? "recognised" : `taken for ${data.classes[column]}`;
  return `${data.classes[row]}, ${said}: ${plural(data.cells[`${row},${column}`].count)}`;
}

function strip(index, alt) {
  const there = document.getElementById(`strip-${index}`);
  const kept = there ? ["src", "width", "height"].map((name) => there.getAttribute(name)) : data.strips[index];
  if (!kept) return data.notes[index] ? element("p", `no image: ${data.notes[index]}`, "faint") : null;
  const image = element("img");
  [image.src, image.width, image.height] = kept;
  image.alt = alt;
  return image;
}

function entry([name, score, index], right, predicted) {
  const said = `${right ? "✓" : "✗"} ${predicted}, ${(score / 10).toFixed(1)} %`;
  const shown = strip(index, `${name}: ${said}`);
  const item = element("li", "", `entry ${right ? "right" : "wrong"}`);
  const line = element("p");
  line.append(element("span", said, "verdict"));
  item.append(...(shown ? [shown] : []), line, element("p", name, "name"));
  return [item, Boolean(shown)];
}

function show(button) {
  const [row, column] = place(button);
  const { count, samples } = data.cells[`${row},${column}`];
  const right = row === column;
  const list = element("ul", "", "list");
  const named = [];
  for (const sample of samples) {
    const [item, drawn] = entry(sample, right, data.classes[column]);
    if (drawn) list.append(item);
    else named.push(`${sample[0]} (${(sample[1] / 10).toFixed(1)} %)`);
  }
  panel.replaceChildren(element("h3", title(row, column)));
  if (list.childElementCount) panel.append(list);
  if (named.length) {
    const more = count > samples.length ? `, and ${count - samples.length} more in predictions.csv` : "";
    const lead = list.childElementCount ? "Without an image here: " : "";
    panel.append(element("p", `${lead}${named.join(", ")}${more}`, "faint"));
  }
  panel.hidden = false;
  for (const other of buttons.values()) other.setAttribute("aria-pressed", String(other.dataset.cell === button.dataset.cell));
  chosen = button;
  panel.focus({ preventScroll: true });
  panel.scrollIntoView({ block: "nearest" });
}

// From a cell to the nearest one that is not empty, in the direction of an arrow key.
function neighbour(button, down, right) {
  const size = data.classes.length;
  let [row, column] = place(button);
  for (;;) {
    row += down;
    column += right;
    if (row < 0 || column < 0 || row >= size || column >= size) return null;
    const found = buttons.get(`${row},${column}`);
    if (found) return found;
  }
}

const arrows = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

if (matrix) {
  for (const button of matrix.querySelectorAll("button")) {
    buttons.set(button.dataset.cell, button);
    const said = title(...place(button));
    button.setAttribute("aria-label", said);
    button.title = said;
  }
  const first = buttons.values().next().value;
  if (first) first.tabIndex = 0;
  matrix.addEventListener("focusin", (event) => {
    if (event.target.tagName !== "BUTTON") return;
    for (const button of buttons.values()) button.tabIndex = -1;
    event.target.tabIndex = 0;
  });
  matrix.addEventListener("keydown", (event) => {
    const step = arrows[event.key];
    if (!step || event.target.tagName !== "BUTTON") return;
    event.preventDefault();
    neighbour(event.target, ...step)?.focus();
  });
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-cell]");
  if (button) show(button);
});

panel.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && chosen) chosen.focus();
});
