// What can be shown: values on a grid of (time, row, column), and where its cells lie.

const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const floats = (text) => new Float32Array(bytes(text).buffer);
const integers = (text) => new Int32Array(bytes(text).buffer);

// Rows of numbers as stored: low + (high - low) * level / 255.
function rowsOf(stored) {
  return { low: floats(stored.low), high: floats(stored.high), levels: bytes(stored.levels) };
}

function rowValues(rows, index) {
  const size = rows.levels.length / rows.low.length;
  const low = rows.low[index], high = rows.high[index];
  return Float32Array.from(rows.levels.subarray(index * size, (index + 1) * size),
    // The ends as they are, not as rounding leaves them.
    (level) => (level === 255 ? high : low + (high - low) * level / 255));
}

const smallest = (numbers) => numbers.reduce((a, b) => Math.min(a, b), Infinity);
const largest = (numbers) => numbers.reduce((a, b) => Math.max(a, b), -Infinity);

function mapOf(stored) {
  return { ...stored, rows: rowsOf(stored.rows), strongest: integers(stored.strongest),
    total: floats(stored.total), shares: floats(stored.shares) };
}

function blockOf(stored) {
  const maps = {};
  for (const [kind, map] of Object.entries(stored.maps)) maps[kind] = mapOf(map);
  return { ...stored, maps, before: gridOf(stored.before), after: gridOf(stored.after) };
}

function gridOf(stored) {
  if (!stored) return null;
  const rows = rowsOf(stored.rows);
  return { cells: stored.cells, values: rowValues(rows, 0), low: rows.low[0], high: rows.high[0] };
}

const dimensions = (cells) => [cells.times.length, cells.rows.length, cells.columns.length];

function numberOf(cells, [time, row, column]) {
  return (time * cells.rows.length + row) * cells.columns.length + column;
}

function placeOf(cells, number) {
  const [, rows, columns] = dimensions(cells);
  return [Math.floor(number / (rows * columns)), Math.floor(number / columns) % rows,
    number % columns];
}

// The first span that holds the value, or the nearest one.
function spanAt(spans, value) {
  const distances = spans.map(([start, end]) => Math.max(start - value, value - end, 0)
    + (value === end ? 1e-9 : 0));
  return distances.indexOf(smallest(distances));
}

// A point is {time, y, x}: shares of the clip, of the height and of the width, so that one point
// fits grids and clips of any size.
function placeAt(cells, point, frames) {
  const frame = Math.min(Math.floor(point.time * frames), frames - 1);
  return [spanAt(cells.times, frame + 0.5), spanAt(cells.rows, point.y),
    spanAt(cells.columns, point.x)];
}

function pointOf(cells, [time, row, column], frames) {
  const middle = ([start, end]) => (start + end) / 2;
  const frame = Math.min(Math.floor(middle(cells.times[time])), frames - 1);
  return { time: (frame + 0.5) / frames, y: middle(cells.rows[row]),
    x: middle(cells.columns[column]) };
}

// The time whose span covers a frame, or -1.
const timeOf = (cells, frame) => cells.times.findIndex(
  ([start, end]) => start <= frame && frame < end);

function number(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size >= 1e-3 && size < 1e5 ? String(Number(value.toPrecision(3))) : value.toExponential(2);
}

const percent = (share) => (100 * share).toFixed(1) + "\u00a0%";

function framesText([start, end], frames) {
  if (frames === 1) return "the only frame";
  return end - start === 1 ? `frame ${start}` : `frames ${start}–${end - 1}`;
}
