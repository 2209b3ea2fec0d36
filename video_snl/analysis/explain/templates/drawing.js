// Colours, and a field drawn over a frame.

const RESOLUTION = 280; // of the longer side of a frame's canvas, in pixels

function colourAt(palette, share) {
  const step = 3 * Math.round(255 * Math.min(Math.max(share, 0), 1));
  return [palette[step], palette[step + 1], palette[step + 2]];
}

const shareOf = (scale, value) => (scale.high > scale.low
  ? (value - scale.low) / (scale.high - scale.low) : 0);

function coloured(field, time, scale, palette) {
  const [, rows, columns] = dimensions(field.cells);
  const image = new ImageData(columns, rows);
  for (let at = 0; at < rows * columns; at += 1) {
    const value = field.values[time * rows * columns + at];
    image.data.set([...colourAt(palette, shareOf(scale, value)), 255], 4 * at);
  }
  return image;
}

function drawBlended(context, image, cells, width, height) {
  const small = document.createElement("canvas");
  [small.width, small.height] = [image.width, image.height];
  small.getContext("2d").putImageData(image, 0, 0);
  const [top, left] = [cells.rows[0][0] * height, cells.columns[0][0] * width];
  const bottom = cells.rows[cells.rows.length - 1][1] * height;
  const right = cells.columns[cells.columns.length - 1][1] * width;
  context.imageSmoothingQuality = "high";
  context.drawImage(small, left, top, right - left, bottom - top);
}

function drawCells(context, image, cells, width, height) {
  cells.rows.forEach(([top, bottom], row) => cells.columns.forEach(([left, right], column) => {
    const start = 4 * (row * image.width + column);
    context.fillStyle = `rgb(${image.data.slice(start, start + 3).join(" ")})`;
    const [x, y] = [Math.round(left * width), Math.round(top * height)];
    context.fillRect(x, y, Math.round(right * width) - x, Math.round(bottom * height) - y);
  }));
}

// The field's colours at the time that covers the frame; nothing where none does.
function drawField(canvas, field, frame, scale, palette, smooth) {
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  const time = field ? timeOf(field.cells, frame) : -1;
  if (time < 0) return;
  const image = coloured(field, time, scale, palette);
  (smooth ? drawBlended : drawCells)(context, image, field.cells, canvas.width, canvas.height);
}

function drawBar(canvas, palette) {
  const context = canvas.getContext("2d");
  const image = new ImageData(256, 1);
  for (let at = 0; at < 256; at += 1) image.data.set([...colourAt(palette, at / 255), 255], 4 * at);
  context.putImageData(image, 0, 0);
}

function sizeCanvas(canvas, width, height) {
  const factor = RESOLUTION / Math.max(width, height);
  [canvas.width, canvas.height] = [Math.round(width * factor), Math.round(height * factor)];
}

// A box over a cell of the grid, in the frames that its time covers.
function placeBox(box, cells, place, frame) {
  box.hidden = !place || timeOf(cells, frame) !== place[0];
  if (box.hidden) return;
  const [top, bottom] = cells.rows[place[1]], [left, right] = cells.columns[place[2]];
  Object.assign(box.style, { top: `${100 * top}%`, height: `${100 * (bottom - top)}%`,
    left: `${100 * left}%`, width: `${100 * (right - left)}%` });
}
