/* The viewer of a whole ECG. It reads `ecg/meta`, `ecg/beats` and tiles of samples, and draws them on two canvases.

   In order: paper and scales; samples (tiles, levels); what is shown (the view); drawing of paper, traces and marks; the strip of
   the whole recording; calipers; words and tables; hands (pointer, wheel, keys); start.
   Times are seconds from the record's start, places on the paper are CSS pixels. Names of the record are data: text, never markup. */

const $ = (id) => document.getElementById(id);
const clamp = (value, low, high) => Math.min(Math.max(value, low), Math.max(low, high));
const BASE = `${location.pathname.replace(/\/$/, "")}/`;

// ---------------------------------------------------------------- paper and scales

const COLOURS = {
  paper: "#fffdfc", thin: "#f6d5d3", thick: "#e3a09d", dense: "#111111a6", grey: "#f5f5f5", greyThin: "#e6e6e6", greyThick: "#c9c9c9",
  trace: "#111", words: "#222", remark: "#6b3a00", for: "#8a1c1c", against: "#15599c", caliper: "#0a6b2d", window: "#15599c",
};
const SPEEDS = [0.5, 1, 2.5, 5, 10, 12.5, 25, 50, 100, 200];
const GAINS = [2.5, 5, 10, 20, 40];
const MISSING = -32768;
const LIMB = ["I", "II", "III", "aVR", "aVL", "aVF"], CHEST = ["V1", "V2", "V3", "V4", "V5", "V6"];

/** Scale of the screen: what a ruler found, for 96 pixels an inch (the rule of CSS) is seldom quite true. */
const screenScale = { factor: 1 };
try { screenScale.factor = clamp(Number(localStorage.getItem("ecg-screen-scale")) || 1, 0.5, 2); } catch { /* storage is refused: 1 */ }
const pxPerMm = () => (96 / 25.4) * screenScale.factor;

// ---------------------------------------------------------------- samples

let meta = null;
let beats = { r_sample: [], flags: [], probability: [], words: {} };

/** Tiles by filter, level and number; the oldest go when there are more bytes than `MOST_BYTES`. */
const tiles = new Map();
const asked = new Set(), flying = new Set(), failed = new Set(); // keys of tiles: to be fetched in this order, on their way, in vain
const MOST_BYTES = 96e6, AT_ONCE = 6;
let tileBytes = 0;

const tileKey = (level, number, filter = view.filter) => `${filter}/${level}/${number}`;
const tileSamples = (level) => meta.tiles.levels[level].stride * meta.tiles.levels[level].n_bins;

/** Return a tile that is here, and make it the youngest. */
function tileAt(level, number, filter) {
  const key = tileKey(level, number, filter), tile = tiles.get(key);
  if (tile) { tiles.delete(key); tiles.set(key, tile); }
  return tile;
}

/** Ask for tiles in this order before any that was asked for earlier; what is not asked for any more is not fetched. */
function askFor(keys) {
  asked.clear();
  for (const key of keys) if (!tiles.has(key) && !failed.has(key) && !flying.has(key)) asked.add(key);
  fetchNext();
}

function fetchNext() {
  for (const key of asked) {
    if (flying.size >= AT_ONCE) return;
    asked.delete(key);
    flying.add(key);
    fetchTile(key).finally(() => { flying.delete(key); fetchNext(); });
  }
}

async function fetchTile(key) {
  try {
    const answer = await fetch(`${BASE}tiles/${meta.tiles.version}/${key}`);
    if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).detail || `the server answered ${answer.status}`);
    const values = new Int16Array(await answer.arrayBuffer());
    if (failed.size === 0 && trouble.isOfTiles) trouble("");
    tiles.set(key, { values, nLeadBins: values.length / meta.leads.length });
    tileBytes += values.byteLength;
    nArrived += 1;
    for (const [oldest, tile] of tiles) {
      if (tileBytes <= MOST_BYTES || oldest === key) break;
      tiles.delete(oldest);
      tileBytes -= tile.values.byteLength;
    }
    drawSoon(key);
  } catch (error) {
    failed.add(key);
    trouble(`A part of the recording could not be loaded: ${error.message}. Move on to try again, or load the page again.`, true);
  }
}

/** Level to draw at: the coarsest that still has a bin for each pixel of the screen. */
function levelFor(samplesPerPixel) {
  let level = 0;
  while (level + 1 < meta.tiles.levels.length && meta.tiles.levels[level + 1].stride <= samplesPerPixel) level += 1;
  return level;
}

const levelNow = () => levelFor(meta.sampling_frequency_hz / (pxPerS() * size.dpr));

// ---------------------------------------------------------------- the view

const view = { start: 0, speed: 25, gain: 10, filter: "none", shown: [], levels: new Map() };
const size = { width: 0, height: 0, dpr: 1, left: 0, top: 26, foot: 20, pitch: 0, first: 0 };

const pxPerS = () => view.speed * pxPerMm();
const span = () => (size.width - size.left) / pxPerS();
/** Where the screen begins on the paper of the whole recording: at a whole pixel, so that what was drawn once can be moved. */
const origin = () => Math.round(view.start * pxPerS() * size.dpr) / size.dpr;
const xOf = (time) => size.left + time * pxPerS() - origin();
const timeAt = (x) => (x - size.left + origin()) / pxPerS();
const slowest = () => Math.min(25, (size.width - size.left) / pxPerMm() / Math.max(meta.duration_s, 0.1));
const moved = () => { draw(); later(); };

function moveTo(start) {
  failed.clear(); // whoever moves tries again
  view.start = clamp(start, 0, meta.duration_s - span());
  moved();
}

/** Change the paper speed while one moment stays where it is. */
function setSpeed(speed, x = (size.width + size.left) / 2) {
  const time = timeAt(x);
  view.speed = clamp(speed, slowest(), 200);
  moveTo(time - (x - size.left) / pxPerS());
  showScales();
}

function zoom(direction) {
  const steps = [slowest(), ...SPEEDS.filter((speed) => speed > slowest())];
  const next = direction > 0 ? steps.find((speed) => speed > view.speed * 1.01) : steps.findLast((speed) => speed < view.speed / 1.01);
  if (next) setSpeed(next);
}

function setGain(gain) {
  view.gain = clamp(gain, GAINS[0], GAINS.at(-1));
  showScales();
  moved();
}

function setFilter(filter) {
  if (filter in meta.tiles.filters) view.filter = filter;
  view.levels.clear();
  failed.clear();
  showScales();
  moved();
}

function showScales() {
  const known = [...$("speed").options].some((option) => option.value === String(view.speed));
  const other = $("speed").querySelector('[value="other"]');
  other.textContent = `${Number(view.speed.toPrecision(2))} mm/s`;
  other.hidden = known;
  $("speed").value = known ? String(view.speed) : "other";
  $("gain").value = String(view.gain);
  $("filter").value = view.filter;
}

// ---------------------------------------------------------------- drawing

/* What moves (paper and traces) is drawn once, in sheets a few centimetres wide that are kept and laid side by side; names, pulses and
   the words of scale and filter lie on a canvas above. Panning then costs a few copies a frame, however many samples there are. */

const paper = $("paper").getContext("2d", { alpha: false });
const over = $("over").getContext("2d");
const marks = $("marks").getContext("2d");
const strip = $("strip").getContext("2d", { alpha: false });
const SHEET_PX = 256;
const sheets = new Map();
let pen = null; // of the sheet that is being drawn
let sheetsAre = "", overIs = "", nArrived = 0, levelsVersion = 0;
let isWaiting = false;

/** Draw at the next frame, once, however often it is asked for. */
function draw() {
  if (isWaiting || !meta) return;
  isWaiting = true;
  requestAnimationFrame(() => { isWaiting = false; drawNow(); });
}

/** Draw when the last of the tiles that are on their way to the screen is here, or a moment later: each costs every sheet anew. */
let soon = 0;

function drawSoon(key) {
  const isMore = needed(levelNow()).some((one) => one !== key && flying.has(one));
  if (!isMore) { clearTimeout(soon); soon = 0; draw(); }
  else if (!soon) soon = setTimeout(() => { soon = 0; draw(); }, 80);
}

function fit(canvas, context) {
  const box = canvas.parentElement.getBoundingClientRect(), dpr = window.devicePixelRatio || 1;
  const width = Math.round(box.width * dpr), height = Math.round(box.height * dpr);
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  context.setTransform(dpr, 0, 0, dpr, 0, 0);
  return { width: box.width, height: box.height, dpr };
}

function measure() {
  Object.assign(size, fit($("paper"), paper));
  size.left = Math.round((size.width < 600 ? 8 : 13) * pxPerMm() * size.dpr) / size.dpr;
  const rows = Math.max(view.shown.length, 1), high = (size.height - size.top - size.foot) / pxPerMm();
  let above = 0.55 * (high / rows), mm = high / rows;
  if (above < 12) { above = Math.min(12, 0.2 * high); mm = (high - above) / (rows - 0.55); } // room for an R wave of the first row
  size.pitch = (mm >= 8 ? Math.floor(mm * 2) / 2 : mm) * pxPerMm();
  size.first = size.top + above * pxPerMm();
}

/** Where a lead's line lies, and where its row begins. */
const baseOf = (row) => size.first + row * size.pitch;
const rowTop = (row) => baseOf(row) - 0.55 * size.pitch;

function drawNow() {
  measure();
  view.speed = Math.max(view.speed, slowest());
  view.start = clamp(view.start, 0, meta.duration_s - span());
  const level = levelNow();
  askFor(wanted(level));
  paper.fillStyle = "#fff";
  paper.fillRect(0, 0, size.width, size.height);
  const isWhole = nArrived > 0 && laySheets(level);
  drawOver();
  drawBeats();
  drawCalipers();
  drawTimes();
  drawStrip();
  if (isWhole && !document.documentElement.dataset.painted) {
    performance.mark("ecg-painted");
    document.documentElement.dataset.painted = performance.now().toFixed(0);
  }
}

/** Tiles that the view needs. */
function needed(level) {
  const perTile = tileSamples(level), n = meta.tiles.levels[level].n_tiles, fs = meta.sampling_frequency_hz;
  const first = clamp(Math.floor((view.start * fs) / perTile), 0, n - 1);
  const last = clamp(Math.floor(((view.start + span()) * fs) / perTile), 0, n - 1);
  const keys = [];
  for (let number = first; number <= last; number += 1) keys.push(tileKey(level, number));
  return keys;
}

/** These, then the strip's, then what lies beside the view. */
function wanted(level) {
  const keys = needed(level), n = meta.tiles.levels[level].n_tiles;
  const [first, last] = [keys[0], keys.at(-1)].map((key) => Number(key.split("/")[2]));
  if (calipers.isOn && level && canSnap()) keys.push(...needed(0));
  const top = meta.tiles.levels.length - 1;
  for (let number = 0; number < meta.tiles.levels[top].n_tiles; number += 1) keys.push(tileKey(top, number, "none"));
  const ahead = last - first + 1;
  for (let i = 1; i <= ahead; i += 1) {
    if (last + i < n) keys.push(tileKey(level, last + i));
    if (first - i >= 0) keys.push(tileKey(level, first - i));
  }
  return keys;
}

/** Lay the sheets that the screen shows, and draw those that are not there yet; return whether none lacked samples. */
function laySheets(level) {
  for (const lead of view.shown) if (!view.levels.has(lead)) levelOf(lead);
  const are = JSON.stringify([size, view.speed, view.gain, view.filter, view.shown, levelsVersion]);
  if (are !== sheetsAre) { sheets.clear(); sheetsAre = are; }
  const from = origin(), first = Math.floor(from / SHEET_PX), last = Math.floor((from + size.width - size.left) / SHEET_PX);
  const height = size.height - size.top - size.foot;
  let isWhole = true;
  for (let number = first; number <= last; number += 1) {
    let sheet = sheets.get(number);
    if (!sheet || (!sheet.isWhole && sheet.nArrived !== nArrived)) sheet = drawSheet(number, level, sheet && sheet.canvas);
    sheets.delete(number);
    sheets.set(number, sheet); // the youngest
    isWhole = isWhole && sheet.isWhole;
    paper.drawImage(sheet.canvas, size.left + number * SHEET_PX - from, size.top, SHEET_PX, height);
  }
  const most = 2 * (last - first) + 6;
  for (const number of sheets.keys()) { if (sheets.size <= most) break; sheets.delete(number); }
  return isWhole;
}

function drawSheet(number, level, canvas = document.createElement("canvas")) {
  const height = size.height - size.top - size.foot, left = number * SHEET_PX;
  canvas.width = Math.round(SHEET_PX * size.dpr);
  canvas.height = Math.round(height * size.dpr);
  pen = canvas.getContext("2d", { alpha: false });
  pen.setTransform(size.dpr, 0, 0, size.dpr, -left * size.dpr, -size.top * size.dpr);
  drawPaper(pen, left, SHEET_PX);
  const end = meta.duration_s * pxPerS();
  if (end < left + SHEET_PX) {
    pen.fillStyle = "#0000000d";
    pen.fillRect(Math.max(end, left), size.top, SHEET_PX, height);
  }
  const sheet = { canvas, isWhole: drawTraces(level, left), nArrived };
  return sheet;
}

/** Lines of ECG paper: a millimetre and five, fixed to the recording; leads without units have lines for time only. */
function drawPaper(context, left, width) {
  const mm = pxPerMm(), { top, dpr } = size, bottom = size.height - size.foot, crisp = (value) => (Math.round(value * dpr) + 0.5) / dpr;
  context.fillStyle = COLOURS.paper;
  context.fillRect(left, top, width, bottom - top);
  const lines = (every, colour, weight, y0, y1, hasAmplitude) => {
    context.beginPath();
    for (let i = Math.floor(left / mm / every); i * every * mm <= left + width; i += 1) {
      if (every === 1 && i % 5 === 0) continue;
      context.moveTo(crisp(i * every * mm), y0);
      context.lineTo(crisp(i * every * mm), y1);
    }
    for (let i = Math.ceil((y0 - baseOf(0)) / mm / every); hasAmplitude && baseOf(0) + i * every * mm < y1; i += 1) {
      if (every === 1 && i % 5 === 0) continue;
      context.moveTo(left, crisp(baseOf(0) + i * every * mm));
      context.lineTo(left + width, crisp(baseOf(0) + i * every * mm));
    }
    context.strokeStyle = colour;
    context.lineWidth = weight;
    context.stroke();
  };
  lines(1, COLOURS.thin, 1 / dpr, top, bottom, true);
  lines(5, COLOURS.thick, 1, top, bottom, true);
  view.shown.forEach((number, row) => {
    if (meta.leads[number].gain !== null) return;
    const y0 = row ? rowTop(row) : top, y1 = row === view.shown.length - 1 ? bottom : rowTop(row) + size.pitch;
    context.fillStyle = COLOURS.grey;
    context.fillRect(left, y0, width, y1 - y0);
    lines(1, COLOURS.greyThin, 1 / dpr, y0, y1, false);
    lines(5, COLOURS.greyThick, 1, y0, y1, false);
  });
}

/** Draw every lead on a sheet; return whether all of it was there. */
function drawTraces(level, left) {
  const fs = meta.sampling_frequency_hz, isDense = fs / pxPerS() > 40;
  const from = Math.max(0, Math.floor(((left - 3) / pxPerS()) * fs) - 1);
  const to = Math.min(meta.n_samples, Math.ceil(((left + SHEET_PX + 3) / pxPerS()) * fs) + 2);
  let isWhole = true;
  pen.lineJoin = "bevel";
  pen.lineWidth = 1.15;
  pen.strokeStyle = isDense ? COLOURS.dense : COLOURS.trace; // beats that run together: leads are told apart where they overlap
  view.shown.forEach((lead, row) => {
    const way = { isDown: false, scale: scaleOf(lead, row), lastY: 0, column: { at: -1 } };
    pen.beginPath();
    isWhole = traceRange(lead, level, from, to, way) && isWhole;
    pen.stroke();
  });
  return isWhole;
}

/** How steps become heights: y = zero - step * perStep. */
function scaleOf(lead, row) {
  const { gain, baseline } = meta.leads[lead], zeroStep = view.filter === "none" ? baseline : 0;
  const known = view.levels.get(lead) || levelOf(lead);
  if (gain === null) {
    const perStep = (0.7 * Math.min(size.pitch, 30 * pxPerMm())) / Math.max(known ? known.range : 1, 1);
    return { perStep, zero: baseOf(row) + (known ? known.middle : 0) * perStep, zeroStep, isMillivolts: false };
  }
  const perStep = (view.gain * pxPerMm()) / gain;
  return { perStep, zero: baseOf(row) + (known ? known.middle : zeroStep) * perStep, zeroStep, isMillivolts: true };
}

/** Where a lead lies now, and over what range, in steps: from what is on the screen; remembered until it has left its row. */
function levelOf(lead) {
  const found = statistics(lead);
  if (found) { view.levels.set(lead, found); levelsVersion += 1; }
  return found;
}

function statistics(lead) {
  const values = [];
  forVisible(lead, (low, high) => values.push((low + high) / 2));
  if (!values.length) return null;
  values.sort((a, b) => a - b);
  const at = (share) => values[Math.min(values.length - 1, Math.floor(share * values.length))];
  return { middle: at(0.5), range: at(0.995) - at(0.005) };
}

/** Move leads that have wandered out of their rows back in: only when the view rests, so that no wave moves under the eye. */
function settleLevels() {
  let isChanged = false;
  view.shown.forEach((lead, row) => {
    const known = view.levels.get(lead), found = statistics(lead);
    if (!found) return;
    const away = known ? Math.abs(found.middle - known.middle) * scaleOf(lead, row).perStep : Infinity;
    if (away > size.pitch * 0.3 || (meta.leads[lead].gain === null && found.range > 1.5 * known.range)) {
      view.levels.set(lead, found);
      levelsVersion += 1;
      isChanged = true;
    }
  });
  if (isChanged) draw();
}

/** Call with lowest and highest step of some hundred places of a lead on the screen, as far as they are here. */
function forVisible(lead, use) {
  const fs = meta.sampling_frequency_hz, from = Math.floor(view.start * fs);
  const to = Math.min(meta.n_samples, Math.ceil((view.start + span()) * fs));
  const level = levelNow(), { stride } = meta.tiles.levels[level], perTile = tileSamples(level);
  const step = Math.max(1, Math.floor((to - from) / stride / 400)) * stride;
  for (let sample = from; sample < to; sample += step) {
    const number = Math.floor(sample / perTile), tile = tiles.get(tileKey(level, number));
    if (!tile) continue;
    const bin = Math.floor((sample - number * perTile) / stride), at = lead * tile.nLeadBins + (level ? 2 * bin : bin);
    if (bin >= (level ? tile.nLeadBins / 2 : tile.nLeadBins) || tile.values[at] === MISSING) continue;
    use(tile.values[at], tile.values[level ? at + 1 : at]);
  }
}

/** Draw samples [from, to) of a lead at a level; where a tile is not here, what a coarser one knows. Return whether all were. */
function traceRange(lead, level, from, to, way) {
  const perTile = tileSamples(level);
  let isWhole = true;
  for (let number = Math.floor(from / perTile); number * perTile < to; number += 1) {
    const first = Math.max(from, number * perTile), stop = Math.min(to, (number + 1) * perTile);
    const tile = tileAt(level, number);
    if (tile) traceTile(tile, lead, level, number * perTile, first, stop, way);
    else {
      isWhole = false;
      if (level + 1 < meta.tiles.levels.length) traceRange(lead, level + 1, first, stop, way);
      else { endColumn(way); way.isDown = false; }
    }
  }
  endColumn(way);
  return isWhole;
}

/** Draw a part of a tile. Of all samples in a column of pixels only the lowest and the highest count, in the order of time. */
function traceTile(tile, lead, level, start, first, stop, way) {
  const { values, nLeadBins } = tile, { stride } = meta.tiles.levels[level], { perStep, zero } = way.scale;
  const perSample = pxPerS() / meta.sampling_frequency_hz, x0 = start * perSample;
  const perBin = level ? 2 : 1, half = level ? (stride - 1) / 2 : 0;
  const nBins = nLeadBins / perBin, lastBin = Math.min(nBins, Math.ceil((stop - start) / stride));
  let at = lead * nLeadBins + Math.floor((first - start) / stride) * perBin;
  if (perSample * stride * size.dpr >= 0.75 && !level) { // as good as a pixel for each sample: all of them
    endColumn(way);
    for (let bin = Math.floor((first - start) / stride); bin < lastBin; bin += 1, at += 1) {
      const value = values[at];
      if (value === MISSING) { way.isDown = false; continue; }
      const x = x0 + bin * perSample, y = zero - value * perStep;
      if (way.isDown) pen.lineTo(x, y); else pen.moveTo(x, y);
      way.isDown = true;
      way.lastY = y;
    }
    return;
  }
  const { dpr } = size, column = way.column;
  for (let bin = Math.floor((first - start) / stride); bin < lastBin; bin += 1, at += perBin) {
    const low = values[at], high = level ? values[at + 1] : low;
    if (low === MISSING) { endColumn(way); way.isDown = false; continue; }
    const x = x0 + (bin * stride + half) * perSample, here = Math.floor(x * dpr);
    if (here !== column.at) {
      endColumn(way);
      column.at = here;
      column.low = low; column.high = high; column.xLow = x; column.xHigh = x;
      column.isTie = level > 0;
    } else {
      if (low < column.low) { column.low = low; column.xLow = x; }
      if (high > column.high) { column.high = high; column.xHigh = x; }
    }
  }
}

/** Draw the column of pixels that was gathered. */
function endColumn(way) {
  const column = way.column;
  if (column.at < 0) return;
  const yLow = way.scale.zero - column.low * way.scale.perStep, yHigh = way.scale.zero - column.high * way.scale.perStep;
  let isLowFirst = column.xLow < column.xHigh;
  if (column.xLow === column.xHigh) isLowFirst = Math.abs(way.lastY - yLow) < Math.abs(way.lastY - yHigh);
  const [x1, y1, x2, y2] = isLowFirst ? [column.xLow, yLow, column.xHigh, yHigh] : [column.xHigh, yHigh, column.xLow, yLow];
  if (way.isDown) pen.lineTo(x1, y1); else pen.moveTo(x1, y1);
  if (y1 !== y2 || !way.isDown) pen.lineTo(x2, y2 === y1 ? y2 + 0.01 : y2);
  way.isDown = true;
  way.lastY = y2;
  column.at = -1;
}

function words(context, text, x, y, { font = "12px", colour = COLOURS.words, align = "left", halo = true } = {}) {
  context.font = `${font} Helvetica, Arial, sans-serif`;
  context.textAlign = align;
  context.textBaseline = "alphabetic";
  if (halo) {
    context.lineJoin = "round";
    context.lineWidth = 3;
    context.strokeStyle = "#ffffffd9";
    context.strokeText(text, x, y);
  }
  context.fillStyle = colour;
  context.fillText(text, x, y);
}

/** What does not move: names and remarks of the leads, calibration pulses of 1 mV, and in words what scale and filter this is. */
function drawOver() {
  const is = JSON.stringify([size, view.speed, view.gain, view.filter, view.shown]);
  if (is === overIs) return;
  overIs = is;
  fit($("over"), over);
  over.clearRect(0, 0, size.width, size.height);
  over.save();
  over.beginPath();
  over.rect(0, 0, size.left, size.height);
  over.clip();
  drawPaper(over, 0, size.left);
  over.restore();
  const mm = pxPerMm(), every = Math.max(1, Math.ceil((view.gain * mm) / (size.pitch * 0.9)));
  view.shown.forEach((number, row) => {
    if (meta.leads[number].gain !== null && (view.shown.length - 1 - row) % every === 0) drawPulse(baseOf(row));
    drawName(meta.leads[number], row);
  });
  const text = scaleWords();
  over.font = "bold 12px Helvetica, Arial, sans-serif";
  const width = over.measureText(text).width, y = size.height - size.foot;
  over.fillStyle = "#ffffffe6";
  over.fillRect(size.width - width - 10, y - 18, width + 10, 18);
  words(over, text, size.width - 5, y - 5, { font: "bold 12px", align: "right", halo: false });
}

function drawPulse(base) {
  const mm = pxPerMm(), x = 1.7 * mm, width = clamp(0.2 * view.speed, 2, size.left / mm - 3) * mm, top = base - view.gain * mm;
  over.beginPath();
  for (const [along, y] of [[-0.7 * mm, base], [0, base], [0, top], [width, top], [width, base], [width + 0.7 * mm, base]]) over.lineTo(x + along, y);
  over.lineWidth = 1.15;
  over.strokeStyle = COLOURS.trace;
  over.stroke();
}

function drawName({ name, remarks }, row) {
  const y = Math.max(rowTop(row) + 11, baseOf(row) - 0.36 * size.pitch);
  words(over, name, size.left + 3, y, { font: "bold 13px" });
  over.font = "bold 13px Helvetica, Arial, sans-serif";
  const x = size.left + 9 + over.measureText(name).width, own = remarks.filter((remark) => !sharedRemarks().includes(remark));
  if (own.length) words(over, own.join(" · "), x, y, { font: "11px", colour: COLOURS.remark });
}

/** What is true of every lead is said once, above. */
const sharedRemarks = () => (meta.leads.length > 1 ? meta.leads[0].remarks.filter((remark) => meta.leads.every((lead) => lead.remarks.includes(remark))) : []);

/** Times below the paper. */
function drawTimes() {
  const steps = [0.04, 0.2, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600], apart = size.width < 600 ? 70 : 90;
  const step = steps.find((one) => one * pxPerS() >= apart) || 43200, y = size.height - size.foot;
  paper.beginPath();
  for (let i = Math.ceil(view.start / step - 1e-9); i * step <= Math.min(view.start + span(), meta.duration_s); i += 1) {
    const x = xOf(i * step);
    paper.moveTo(x, y);
    paper.lineTo(x, y + 4);
    if (x < size.width - 24) words(paper, clock(i * step, step < 1 ? 2 : 0), x, y + 15, { font: "11px", align: "center", halo: false });
  }
  paper.strokeStyle = COLOURS.words;
  paper.lineWidth = 1;
  paper.stroke();
}

function scaleWords() {
  const speed = Number(view.speed.toPrecision(view.speed < 1 ? 2 : 3));
  const hasUnits = view.shown.some((number) => meta.leads[number].gain !== null);
  return `${speed} mm/s · ${hasUnits ? `${view.gain} mm/mV` : "heights are not millivolts"} · ${meta.tiles.filters[view.filter]}`;
}

/** R peaks above the paper, as on the report's: each with its probability where there is room. */
function drawBeats() {
  const fs = meta.sampling_frequency_hz, first = lowerBound(beats.r_sample, view.start * fs);
  const stop = lowerBound(beats.r_sample, (view.start + span()) * fs), room = (size.width - size.left) / Math.max(stop - first, 1);
  if (room < 2.5) {
    words(paper, "R peaks: zoom in", size.left + 3, 16, { font: "11px", halo: false });
    return;
  }
  for (let i = first; i < stop; i += 1) {
    const x = xOf(beats.r_sample[i] / fs), value = beats.probability[i];
    const isFor = value !== null && meta.threshold !== null && value >= meta.threshold;
    const colour = isFor ? COLOURS.for : COLOURS.against, half = room < 12 ? 1.5 : 4;
    paper.beginPath();
    if (isFor) { paper.moveTo(x, 16); paper.lineTo(x - half, 24); paper.lineTo(x + half, 24); }
    else { paper.moveTo(x, 24); paper.lineTo(x - half, 16); paper.lineTo(x + half, 16); }
    paper.closePath();
    paper.fillStyle = paper.strokeStyle = colour;
    paper.lineWidth = 1;
    if (value !== null) paper.fill(); else paper.stroke();
    if (value !== null && room >= 30 && x < size.width - 14) words(paper, chance(value), x, 12, { font: "11px", colour, align: "center", halo: false });
  }
}

// ---------------------------------------------------------------- the strip of the whole recording

const stripIsWhole = () => {
  const top = meta.tiles.levels.length - 1;
  for (let number = 0; number < meta.tiles.levels[top].n_tiles; number += 1) {
    if (!tiles.has(tileKey(top, number, "none")) && !failed.has(tileKey(top, number, "none"))) return false;
  }
  return true;
};
const stripScale = () => $("strip").parentElement.clientWidth / Math.max(meta.duration_s, 0.001);

/** Rhythm lead's envelope, the heart rate from beat to beat on top, and a window: what is on the paper. Drawn once, then kept. */
let stripPicture = { key: "", image: null };

function drawStrip() {
  const box = fit($("strip"), strip);
  const key = [box.width, box.height, box.dpr, stripIsWhole() ? "whole" : tiles.size, beats.r_sample.length].join();
  if (stripPicture.key !== key) {
    const canvas = document.createElement("canvas");
    canvas.width = $("strip").width;
    canvas.height = $("strip").height;
    const pen = canvas.getContext("2d");
    pen.setTransform(box.dpr, 0, 0, box.dpr, 0, 0);
    pen.fillStyle = "#f7f7f7";
    pen.fillRect(0, 0, box.width, box.height);
    drawEnvelope(pen, box);
    drawRate(pen, box);
    stripPicture = { key, image: canvas };
  }
  strip.drawImage(stripPicture.image, 0, 0, box.width, box.height);
  const x = view.start * stripScale(), width = Math.max(span() * stripScale(), 4);
  strip.fillStyle = "#15599c26";
  strip.fillRect(x, 0, width, box.height);
  strip.strokeStyle = COLOURS.window;
  strip.lineWidth = 2;
  strip.strokeRect(x + 1, 1, Math.max(width - 2, 2), box.height - 2);
}

function drawEnvelope(pen, box) {
  const lead = Math.max(0, meta.leads.findIndex((one) => one.name === meta.rhythm_lead)), top = meta.tiles.levels.length - 1;
  const { stride, n_tiles: nTiles } = meta.tiles.levels[top], perTile = tileSamples(top), columns = [];
  for (let number = 0; number < nTiles; number += 1) {
    const tile = tiles.get(tileKey(top, number, "none"));
    if (!tile) continue;
    for (let bin = 0; bin < tile.nLeadBins / 2; bin += 1) {
      const at = lead * tile.nLeadBins + 2 * bin;
      if (tile.values[at] === MISSING) continue;
      columns.push([((number * perTile + bin * stride) / meta.sampling_frequency_hz) * stripScale(), tile.values[at], tile.values[at + 1]]);
    }
  }
  if (!columns.length) return;
  const lows = columns.map((one) => one[1]).sort((a, b) => a - b), highs = columns.map((one) => one[2]).sort((a, b) => a - b);
  const low = lows[Math.floor(lows.length * 0.01)], high = highs[Math.floor(highs.length * 0.99)], scale = (box.height - 8) / Math.max(high - low, 1);
  const width = Math.max(1, (stride / meta.sampling_frequency_hz) * stripScale());
  pen.fillStyle = "#b9b9b9";
  for (const [x, a, b] of columns) {
    const y = clamp(box.height - 4 - (b - low) * scale, 1, box.height - 2), bottom = clamp(box.height - 4 - (a - low) * scale, 1, box.height - 1);
    pen.fillRect(x, y, width, Math.max(bottom - y, 1));
  }
}

function drawRate(pen, box) {
  const n = beats.r_sample.length, fs = meta.sampling_frequency_hz, every = Math.max(1, Math.floor(n / 6000));
  const yOf = (rate) => clamp(box.height - 4 - ((rate - 30) / 170) * (box.height - 8), 2, box.height - 2);
  pen.font = "10px Helvetica, Arial, sans-serif";
  pen.textBaseline = "middle";
  if (n > 2) {
    const dot = clamp(600 / n, 1.5, 3);
    pen.fillStyle = COLOURS.against;
    for (let i = 1; i < n; i += every) {
      const rate = (60 * fs) / (beats.r_sample[i] - beats.r_sample[i - 1]);
      pen.fillRect((beats.r_sample[i] / fs) * stripScale() - dot / 2, yOf(rate) - dot / 2, dot, dot);
    }
    for (const rate of [60, 120]) {
      pen.fillStyle = "#ffffffcc";
      pen.fillRect(0, yOf(rate) - 5, rate > 99 ? 38 : 32, 10);
      pen.fillStyle = "#333";
      pen.fillText(`${rate}/min`, 1, yOf(rate));
    }
  }
  pen.fillStyle = "#333";
  pen.textAlign = "right";
  pen.fillText(`${meta.rhythm_lead ? `lead ${meta.rhythm_lead}` : ""}${n > 2 ? ", heart rate" : ""} · ${clock(meta.duration_s)}`, box.width - 4, box.height - 7);
}

// ---------------------------------------------------------------- calipers

/** Two points of a lead, by time and step: they stay on the ECG when it moves. `active` is the one that keys move. */
const calipers = { isOn: false, points: [], active: 1 };

const rowOf = (lead) => view.shown.indexOf(lead);
const yOfStep = (lead, step) => { const scale = scaleOf(lead, rowOf(lead)); return scale.zero - step * scale.perStep; };
const stepAt = (lead, y) => { const scale = scaleOf(lead, rowOf(lead)); return (scale.zero - y) / scale.perStep; };

/** Whether a line of pixels holds so few samples that one of them can be meant. */
const canSnap = () => meta.sampling_frequency_hz / pxPerS() <= 40;

/** Sample of a lead, as stored or filtered; null where it is missing or not here. */
function stepOf(lead, sample) {
  const perTile = tileSamples(0), tile = tiles.get(tileKey(0, Math.floor(sample / perTile)));
  const value = tile ? tile.values[lead * tile.nLeadBins + (sample % perTile)] : undefined;
  return value === undefined || value === MISSING || sample < 0 || sample >= meta.n_samples ? null : value;
}

/** The point of a trace nearest to a place on the paper, within two millimetres; null where there is none. */
function nearest(lead, x, y) {
  const fs = meta.sampling_frequency_hz, reach = 2 * pxPerMm(), first = Math.ceil(timeAt(x - reach) * fs);
  if (!canSnap()) return null;
  let best = null, least = reach + 0.01;
  for (let sample = first; sample <= timeAt(x + reach) * fs; sample += 1) {
    const step = stepOf(lead, sample);
    if (step === null) continue;
    const distance = Math.hypot(xOf(sample / fs) - x, yOfStep(lead, step) - y);
    if (distance < least) { least = distance; best = { time: sample / fs, step, distance }; }
  }
  return best;
}

/** The lead that is meant at a place: the one whose trace is nearest, else the one whose row it is. */
function leadAt(x, y) {
  const near = $("snap").checked ? view.shown.map((lead) => ({ lead, found: nearest(lead, x, y) })).filter((one) => one.found) : [];
  near.sort((a, b) => a.found.distance - b.found.distance);
  return near.length ? near[0].lead : view.shown[clamp(Math.floor((y - rowTop(0)) / size.pitch), 0, view.shown.length - 1)];
}

function pointAt(lead, x, y, isFree) {
  const found = $("snap").checked && !isFree ? nearest(lead, x, y) : null;
  return found ? { time: found.time, step: found.step } : { time: clamp(timeAt(x), 0, meta.duration_s), step: stepAt(lead, y) };
}

function setPoint(which, point, lead) {
  calipers.lead = lead;
  calipers.points[which] = point;
  calipers.active = which;
  readCalipers();
  draw();
}

/** What the calipers measure: time, rate and voltage; null without two points. */
function measured() {
  const [a, b] = calipers.points;
  if (!a || !b) return null;
  const { gain } = meta.leads[calipers.lead], ms = (b.time - a.time) * 1000;
  return { ms, bpm: ms ? 60000 / Math.abs(ms) : null, mv: gain === null ? null : (b.step - a.step) / gain };
}

function measuredWords(found) {
  const bpm = found.bpm && found.bpm < 1000 ? ` · ${found.bpm.toFixed(found.bpm < 100 ? 1 : 0)}/min` : "";
  const mv = found.mv === null ? "no millivolts" : `${found.mv < 0 ? "−" : ""}${Math.abs(found.mv).toFixed(3)} mV`;
  return `${Math.abs(found.ms).toFixed(Math.abs(found.ms) < 10000 ? 0 : 0)} ms${bpm} · ${mv}`;
}

function readCalipers() {
  const found = measured();
  const where = calipers.points[calipers.active];
  $("reading").textContent = found
    ? `${measuredWords(found)} (lead ${meta.leads[calipers.lead].name}, from ${clock(calipers.points[0].time, 3)})`
    : where ? `First point at ${clock(where.time, 3)}, lead ${meta.leads[calipers.lead].name}` : "Calipers: drag from one point to the other.";
  for (const key of ["ms", "mv"]) {
    if (found && found[key] !== null) $("reading").dataset[key] = String(found[key]); else delete $("reading").dataset[key];
  }
}

function turnCalipers(isOn) {
  calipers.isOn = isOn;
  $("calipers").setAttribute("aria-pressed", String(isOn));
  $("ecg").classList.toggle("measuring", isOn);
  $("measuring").hidden = !isOn && !calipers.points.length;
  readCalipers();
  draw();
}

function clearCalipers() {
  calipers.points = [];
  calipers.active = 1;
  $("measuring").hidden = !calipers.isOn;
  readCalipers();
  draw();
}

function drawCalipers() {
  fit($("marks"), marks);
  marks.clearRect(0, 0, size.width, size.height);
  if (!calipers.points.length || rowOf(calipers.lead) < 0) return;
  const bottom = size.height - size.foot, lead = calipers.lead;
  marks.save();
  marks.beginPath();
  marks.rect(size.left, 0, size.width - size.left, bottom);
  marks.clip();
  marks.strokeStyle = marks.fillStyle = COLOURS.caliper;
  const places = calipers.points.map((point) => point && { x: xOf(point.time), y: yOfStep(lead, point.step) });
  if ($("march").checked && measured()) {
    const apart = Math.abs(places[1].x - places[0].x);
    marks.lineWidth = 1;
    marks.setLineDash([3, 4]);
    marks.beginPath();
    for (let x = places[0].x - Math.ceil(places[0].x / apart) * apart; apart >= 6 && x < size.width; x += apart) {
      marks.moveTo(x, size.top);
      marks.lineTo(x, bottom);
    }
    marks.stroke();
    marks.setLineDash([]);
  }
  places.forEach((place, which) => {
    if (!place) return;
    marks.lineWidth = which === calipers.active ? 2 : 1.2;
    marks.beginPath();
    marks.moveTo(place.x, size.top);
    marks.lineTo(place.x, bottom);
    marks.stroke();
    marks.lineWidth = 1.2;
    marks.beginPath();
    const other = places[1 - which], far = other ? Math.abs(other.x - place.x) : 0;
    const [x0, x1] = other && other.x < place.x ? [place.x - far - 8, place.x + 8] : [place.x - 8, place.x + far + 8];
    marks.moveTo(x0, place.y);
    marks.lineTo(x1, place.y);
    marks.stroke();
    marks.beginPath();
    marks.arc(place.x, place.y, which === calipers.active ? 5 : 3.5, 0, 7);
    if (which === calipers.active) marks.fill(); else { marks.fillStyle = "#fff"; marks.fill(); marks.stroke(); marks.fillStyle = COLOURS.caliper; }
  });
  const found = measured();
  if (found) {
    const text = measuredWords(found);
    marks.font = "bold 13px Helvetica, Arial, sans-serif";
    const width = marks.measureText(text).width + 10, middle = (places[0].x + places[1].x) / 2;
    const x = clamp(middle - width / 2, size.left + 2, size.width - width - 2);
    const y = clamp(Math.max(places[0].y, places[1].y) + 8, size.top, bottom - 40);
    marks.fillStyle = "#ffffffeb";
    marks.fillRect(x, y, width, 20);
    words(marks, text, x + 5, y + 15, { font: "bold 13px", colour: COLOURS.caliper, halo: false });
  }
  marks.restore();
}

// ---------------------------------------------------------------- words and tables

function clock(time, digits = 0) {
  const unit = 10 ** digits, whole = Math.round(time * unit) / unit, hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
  const seconds = (whole % 60).toFixed(digits).padStart(digits ? digits + 3 : 2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${seconds}` : `${minutes}:${seconds}`;
}

const chance = (value) => (value < 0.005 ? "<0.01" : value >= 0.995 ? ">0.99" : value.toFixed(2));

/** First place in an ascending list whose value is not below. */
function lowerBound(list, value) {
  let low = 0, high = list.length;
  while (low < high) { const middle = (low + high) >> 1; if (list[middle] < value) low = middle + 1; else high = middle; }
  return low;
}

/** Say what is wrong; what was said of tiles is taken back when tiles come again. */
function trouble(text, isOfTiles = false) {
  $("trouble").textContent = text;
  $("trouble").hidden = !text;
  trouble.isOfTiles = isOfTiles;
}

/** What is on the paper, in words; after a rest, so that a reader of the screen is not talked over. */
let resting = 0;

function later() {
  clearTimeout(resting);
  resting = setTimeout(() => { settleLevels(); say(); fillBeats(); keepPlace(); }, 200);
}

function onScreen() {
  const fs = meta.sampling_frequency_hz, end = Math.min(view.start + span(), meta.duration_s);
  return { first: lowerBound(beats.r_sample, view.start * fs), stop: lowerBound(beats.r_sample, end * fs), end };
}

function say() {
  const { first, stop, end } = onScreen(), fs = meta.sampling_frequency_hz, digits = span() < 60 ? 1 : 0;
  const rates = [];
  for (let i = first + 1; i < stop; i += 1) rates.push((60 * fs) / (beats.r_sample[i] - beats.r_sample[i - 1]));
  rates.sort((a, b) => a - b);
  const rate = rates.length > 1 ? `, ${stop - first} beats, median rate ${Math.round(rates[rates.length >> 1])}/min` : "";
  const text = `${clock(view.start, digits)} to ${clock(end, digits)} of ${clock(meta.duration_s)}: ${scaleWords().replaceAll(" · ", ", ")}${rate}`;
  if ($("said").textContent !== text) $("said").textContent = text;
  const slider = $("course");
  slider.setAttribute("aria-valuemax", String(Math.round(Math.max(0, meta.duration_s - span()))));
  slider.setAttribute("aria-valuenow", String(Math.round(view.start)));
  slider.setAttribute("aria-valuetext", `${clock(view.start, digits)} to ${clock(end, digits)}`);
}

function cell(row, text, kind = "td") {
  const made = document.createElement(kind);
  if (kind === "th") made.scope = "row";
  made.textContent = text;
  row.append(made);
  return made;
}

const MOST_ROWS = 300;

function fillBeats() {
  if (!$("beats").open) return;
  const { first, stop } = onScreen(), fs = meta.sampling_frequency_hz, last = Math.min(stop, first + MOST_ROWS);
  $("beats-said").textContent = !beats.r_sample.length ? "No beats are known of this recording."
    : `${stop - first} of ${beats.r_sample.length} beats are on the screen${last < stop ? `; the first ${MOST_ROWS} are listed` : ""}.`;
  const rows = [];
  for (let i = first; i < last; i += 1) {
    const row = document.createElement("tr"), rr = i ? ((beats.r_sample[i] - beats.r_sample[i - 1]) / fs) * 1000 : null;
    cell(row, String(i + 1), "th");
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = clock(beats.r_sample[i] / fs, 2);
    button.setAttribute("aria-label", `Show beat ${i + 1} at ${button.textContent}`);
    button.addEventListener("click", () => { moveTo(beats.r_sample[i] / fs - span() / 2); $("ecg").focus(); });
    cell(row, "").append(button);
    cell(row, rr === null ? "" : rr.toFixed(0)).className = "n";
    cell(row, rr === null ? "" : (60000 / rr).toFixed(0)).className = "n";
    cell(row, beats.probability[i] === null ? "not scored" : chance(beats.probability[i])).className = "n";
    cell(row, Object.entries(beats.words).filter(([bit]) => beats.flags[i] & Number(bit)).map(([, word]) => word).join(", "));
    rows.push(row);
  }
  $("beat-rows").replaceChildren(...rows);
}

function fillLeads() {
  $("lead-rows").replaceChildren(...meta.leads.map((lead) => {
    const row = document.createElement("tr");
    cell(row, lead.name, "th");
    cell(row, lead.gain === null ? "not millivolts: only its shape counts" : "millivolts");
    cell(row, lead.remarks.join(", "));
    return row;
  }));
  $("lead-boxes").replaceChildren(...meta.leads.map((lead, number) => {
    const label = document.createElement("label"), box = document.createElement("input");
    box.type = "checkbox";
    box.checked = view.shown.includes(number);
    box.dataset.lead = String(number);
    label.append(box, ` ${lead.name}`);
    return label;
  }));
}

function showLeads(chosen) {
  const numbers = meta.leads.map((_, number) => number).filter(chosen);
  if (numbers.length) view.shown = numbers;
  for (const box of $("lead-boxes").querySelectorAll("input")) box.checked = view.shown.includes(Number(box.dataset.lead));
  moved();
}

/** The address remembers place and scale: it can be sent to somebody else, and survives a reload. */
function keepPlace() {
  const place = new URLSearchParams({ t: view.start.toFixed(2), speed: String(Number(view.speed.toPrecision(4))), gain: String(view.gain) });
  if (view.filter !== "none") place.set("filter", view.filter);
  history.replaceState(null, "", `#${place}`);
}

function takePlace() {
  const place = new URLSearchParams(location.hash.slice(1)), number = (name, other) => { const value = Number.parseFloat(place.get(name)); return Number.isFinite(value) ? value : other; };
  view.filter = place.get("filter") in meta.tiles.filters ? place.get("filter") : "none";
  view.gain = GAINS.includes(number("gain", 10)) ? number("gain", 10) : 10;
  measure();
  view.speed = clamp(number("speed", 25), slowest(), 200);
  view.start = clamp(number("t", 0), 0, meta.duration_s - span());
  showScales();
}

// ---------------------------------------------------------------- hands: pointer, wheel, keys

const pointers = new Map();
let drag = null;

const placeOf = (event) => { const box = $("ecg").getBoundingClientRect(); return { x: event.clientX - box.left, y: event.clientY - box.top }; };

/** Take hold of a caliper's point that is near; or begin to measure anew. */
function holdPoint(event, place) {
  const near = calipers.points.findIndex((point) => point && rowOf(calipers.lead) >= 0
    && Math.hypot(xOf(point.time) - place.x, yOfStep(calipers.lead, point.step) - place.y) < 14);
  if (near >= 0) return { kind: "point", which: near, lead: calipers.lead };
  const lead = leadAt(place.x, place.y);
  calipers.points = [];
  setPoint(0, pointAt(lead, place.x, place.y, event.altKey), lead);
  return { kind: "point", which: 1, lead };
}

function pressed(event) {
  if (event.button) return;
  const place = placeOf(event);
  pointers.set(event.pointerId, place);
  $("ecg").setPointerCapture(event.pointerId);
  if (pointers.size === 2) {
    const [a, b] = [...pointers.values()];
    drag = { kind: "pinch", apart: Math.hypot(a.x - b.x, a.y - b.y), speed: view.speed, time: timeAt((a.x + b.x) / 2) };
  } else if (calipers.isOn) drag = holdPoint(event, place);
  else drag = { kind: "pan", x: place.x, start: view.start };
  $("ecg").classList.toggle("dragging", drag.kind === "pan");
}

function dragged(event) {
  if (!pointers.has(event.pointerId) || !drag) return;
  const place = placeOf(event);
  pointers.set(event.pointerId, place);
  if (drag.kind === "pan") moveTo(drag.start - (place.x - drag.x) / pxPerS());
  else if (drag.kind === "point") setPoint(drag.which, pointAt(drag.lead, place.x, place.y, event.altKey), drag.lead);
  else if (pointers.size === 2) {
    const [a, b] = [...pointers.values()], x = (a.x + b.x) / 2;
    view.speed = clamp((drag.speed * Math.hypot(a.x - b.x, a.y - b.y)) / Math.max(drag.apart, 10), slowest(), 200);
    moveTo(drag.time - (x - size.left) / pxPerS());
    showScales();
  }
}

function released(event) {
  pointers.delete(event.pointerId);
  const [left] = pointers.values();
  drag = left && !calipers.isOn ? { kind: "pan", x: left.x, start: view.start } : null;
  $("ecg").classList.remove("dragging");
}

function wheeled(event) {
  const unit = event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? 400 : 1, by = (Math.abs(event.deltaX) > Math.abs(event.deltaY) ? event.deltaX : event.deltaY) * unit;
  if (event.ctrlKey || event.metaKey) {
    event.preventDefault();
    setSpeed(view.speed * Math.exp(-clamp(by, -120, 120) * 0.004), placeOf(event).x);
  } else if (span() < meta.duration_s) {
    event.preventDefault();
    moveTo(view.start + by / pxPerS());
  }
}

const nextOf = (list, value, by) => list[clamp(list.indexOf(value) + by, 0, list.length - 1)];

function stepBeat(by) {
  const fs = meta.sampling_frequency_hz, isMeasuring = calipers.isOn && calipers.points[calipers.active];
  const from = isMeasuring ? calipers.points[calipers.active].time : view.start + span() / 2;
  const i = by > 0 ? lowerBound(beats.r_sample, from * fs + 1.5) : lowerBound(beats.r_sample, from * fs - 1.5) - 1;
  if (i < 0 || i >= beats.r_sample.length) return;
  const sample = beats.r_sample[i];
  if (isMeasuring) setPoint(calipers.active, { time: sample / fs, step: stepOf(calipers.lead, sample) ?? calipers.points[calipers.active].step }, calipers.lead);
  if (!isMeasuring || sample / fs < view.start || sample / fs > view.start + span()) moveTo(sample / fs - span() / 2);
}

/** Put both points on the paper where there are none: a second apart, in its middle. */
function layPoints() {
  if (calipers.points.length === 2) return;
  const lead = Math.max(0, meta.leads.findIndex((one) => one.name === meta.rhythm_lead)), shown = rowOf(lead) < 0 ? view.shown[0] : lead;
  const middle = view.start + Math.min(span(), meta.duration_s) / 2, y = baseOf(rowOf(shown)), half = Math.min(0.5, span() / 4);
  setPoint(0, pointAt(shown, xOf(middle - half), y, true), shown);
  setPoint(1, pointAt(shown, xOf(middle + half), y, true), shown);
}

/** Move the active point by keys: along by samples, or pixels where one holds more; up and down by pixels. */
function nudge(dx, dy) {
  layPoints();
  const { lead, active } = calipers, point = calipers.points[active], fs = meta.sampling_frequency_hz;
  const along = Math.max(1 / fs, 1 / pxPerS());
  const time = clamp(Math.round((point.time + dx * along) * fs) / fs, 0, meta.duration_s);
  setPoint(active, { time, step: point.step - dy / scaleOf(lead, rowOf(lead)).perStep }, lead);
  if (time < view.start || time > view.start + span()) moveTo(time - span() / 2);
}

function ontoTrace() {
  layPoints();
  const { lead, active } = calipers, sample = Math.round(calipers.points[active].time * meta.sampling_frequency_hz), step = stepOf(lead, sample);
  if (step !== null) setPoint(active, { time: sample / meta.sampling_frequency_hz, step }, lead);
}

function otherLead() {
  layPoints();
  const lead = view.shown[(rowOf(calipers.lead) + 1) % view.shown.length];
  const y = calipers.points.map((point) => yOfStep(calipers.lead, point.step) - baseOf(rowOf(calipers.lead)));
  calipers.points = calipers.points.map((point, which) => ({ time: point.time, step: stepAt(lead, baseOf(rowOf(lead)) + y[which]) }));
  calipers.lead = lead;
  readCalipers();
  draw();
}

const KEYS = {
  ArrowLeft: (far) => (calipers.isOn ? nudge(far ? -10 : -1, 0) : moveTo(view.start - (far ? 1 : 5 / view.speed))),
  ArrowRight: (far) => (calipers.isOn ? nudge(far ? 10 : 1, 0) : moveTo(view.start + (far ? 1 : 5 / view.speed))),
  ArrowUp: (far) => (calipers.isOn ? nudge(0, far ? -10 : -1) : setGain(nextOf(GAINS, view.gain, 1))),
  ArrowDown: (far) => (calipers.isOn ? nudge(0, far ? 10 : 1) : setGain(nextOf(GAINS, view.gain, -1))),
  PageUp: () => moveTo(view.start - 0.9 * span()),
  PageDown: () => moveTo(view.start + 0.9 * span()),
  Home: () => moveTo(0),
  End: () => moveTo(meta.duration_s),
  "+": () => zoom(1),
  "=": () => zoom(1),
  "-": () => zoom(-1),
  "−": () => zoom(-1),
  0: () => setSpeed(slowest()),
  2: () => setSpeed(25),
  5: () => setSpeed(50),
  f: () => { const names = Object.keys(meta.tiles.filters); setFilter(names[(names.indexOf(view.filter) + 1) % names.length]); },
  c: () => turnCalipers(!calipers.isOn),
  Escape: () => turnCalipers(false),
  n: () => stepBeat(1),
  p: () => stepBeat(-1),
};
const CALIPER_KEYS = {
  x: () => { layPoints(); calipers.active = 1 - calipers.active; draw(); readCalipers(); },
  s: ontoTrace,
  l: otherLead,
  m: () => { $("march").checked = !$("march").checked; draw(); },
};

function typed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const act = (calipers.isOn && CALIPER_KEYS[key]) || KEYS[key];
  if (!act) return;
  event.preventDefault();
  act(event.shiftKey);
}

function strippedKey(event) {
  const by = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
  if (by && !event.ctrlKey && !event.metaKey && !event.altKey) { event.preventDefault(); moveTo(view.start + by * 0.1 * span()); }
  else if (["PageUp", "PageDown", "Home", "End"].includes(event.key)) typed(event);
}

function jumped(event) {
  if (event.type === "pointerdown") $("course").setPointerCapture(event.pointerId);
  else if (!event.buttons) return;
  const box = $("course").getBoundingClientRect();
  moveTo((event.clientX - box.left) / stripScale() - span() / 2);
}

function listen() {
  const ecg = $("ecg");
  ecg.addEventListener("pointerdown", pressed);
  ecg.addEventListener("pointermove", dragged);
  for (const kind of ["pointerup", "pointercancel"]) ecg.addEventListener(kind, released);
  ecg.addEventListener("wheel", wheeled, { passive: false });
  ecg.addEventListener("keydown", typed);
  $("course").addEventListener("pointerdown", jumped);
  $("course").addEventListener("pointermove", jumped);
  $("course").addEventListener("keydown", strippedKey);
  $("speed").addEventListener("change", () => $("speed").value !== "other" && setSpeed(Number($("speed").value)));
  $("gain").addEventListener("change", () => setGain(Number($("gain").value)));
  $("filter").addEventListener("change", () => setFilter($("filter").value));
  $("in").addEventListener("click", () => zoom(1));
  $("out").addEventListener("click", () => zoom(-1));
  $("whole").addEventListener("click", () => setSpeed(slowest()));
  $("calipers").addEventListener("click", () => turnCalipers(!calipers.isOn));
  $("clear").addEventListener("click", clearCalipers);
  $("march").addEventListener("change", draw);
  $("beats").addEventListener("toggle", fillBeats);
  $("lead-boxes").addEventListener("change", () => {
    const chosen = [...$("lead-boxes").querySelectorAll("input:checked")].map((box) => Number(box.dataset.lead));
    showLeads((_, number) => chosen.includes(number));
  });
  const sets = { all: () => true, limb: (name) => LIMB.includes(name), chest: (name) => CHEST.includes(name), rhythm: (name) => name === meta.rhythm_lead };
  for (const button of document.querySelectorAll("[data-leads]")) {
    button.addEventListener("click", () => showLeads((number) => sets[button.dataset.leads](meta.leads[number].name)));
  }
  $("ruler-mm").addEventListener("change", () => {
    screenScale.factor = clamp((screenScale.factor * 100) / Number($("ruler-mm").value || 100), 0.5, 2);
    try { localStorage.setItem("ecg-screen-scale", String(screenScale.factor)); } catch { /* not kept, then */ }
    $("ruler-mm").value = "100";
    $("ruler").style.width = `${100 * pxPerMm()}px`;
    moved();
  });
  new ResizeObserver(moved).observe(ecg);
  window.addEventListener("hashchange", () => { takePlace(); moved(); });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape" && $("chosen-leads").open) $("chosen-leads").open = false; });
  document.addEventListener("pointerdown", (event) => { if (!$("chosen-leads").contains(event.target)) $("chosen-leads").open = false; });
}

// ---------------------------------------------------------------- start

async function ask(what) {
  const answer = await fetch(BASE + what);
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(found.detail || `the server answered ${answer.status}`);
  return found;
}

async function start() {
  const beatsAsked = ask("beats");
  beatsAsked.catch(() => {}); // said below, once the rest is there
  const found = await ask("meta");
  const rate = `${Number(found.sampling_frequency_hz.toPrecision(6))} Hz`;
  $("facts").textContent = found.n_samples ? `${clock(found.duration_s)}, ${found.leads.length} leads, ${rate}` : "";
  if (found.status === "partial") trouble(`Only a part of this record could be read: ${found.why}`);
  if (!found.n_samples) { trouble(`There is no ECG to draw: ${found.why || "the record has no samples"}`); return; }
  meta = found;
  if (sharedRemarks().length) $("facts").textContent += `; all leads: ${sharedRemarks().join(", ")}`;
  view.shown = meta.leads.map((_, number) => number);
  if (LIMB.concat(CHEST).filter((name) => meta.leads.some((lead) => lead.name === name)).length >= 6) {
    view.shown = view.shown.filter((number) => [...LIMB, ...CHEST].includes(meta.leads[number].name)); // others by choice: twelve are enough for a screen
  }
  for (const [name, label] of Object.entries(meta.tiles.filters)) $("filter").append(new Option(label, name));
  $("ecg").setAttribute("aria-label", `ECG of ${meta.name}: ${meta.leads.map((lead) => lead.name).join(", ")}`);
  $("ruler").style.width = `${100 * pxPerMm()}px`;
  fillLeads();
  takePlace();
  askFor(wanted(levelNow()));
  listen();
  moved();
  beats = await beatsAsked;
  moved();
}

start().catch((error) => trouble(`The recording could not be opened: ${error.message}`));
