// The report page's own script: tables that sort and copy, and the interactive loss curves, which uPlot draws.
"use strict";

// ---- Tables: a click on a header sorts, the buttons below copy the rows in the order shown

const MISSING = new Set(["", "-"]);
const NUMBER = /^[≥≤×]?\s*([+-]?)(∞|(?:\d[\d,]*\.?\d*|\.\d+)(?:e[+-]?\d+)?)/i;

// Returns what a cell is sorted by: the number it begins with, else its text; null for an empty cell
function sortKey(text) {
  if (MISSING.has(text)) return null;
  const found = NUMBER.exec(text);
  if (!found) return text;
  const size = found[2] === "∞" ? Infinity : Number(found[2].replaceAll(",", ""));
  return found[1] === "-" ? -size : size;
}

// Orders numbers before texts; empty cells come last in both directions
function compare(a, b, direction) {
  if (a === null || b === null) return (a === null) - (b === null);
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  return direction * (typeof a === "number" ? (a > b) - (a < b) : a.localeCompare(b, undefined, { numeric: true }));
}

function sortBy(table, header) {
  const direction = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  const keyed = [...table.tBodies[0].rows].map((row) => [sortKey(row.cells[header.cellIndex].textContent.trim()), row]);
  keyed.sort((a, b) => compare(a[0], b[0], direction));
  table.tBodies[0].append(...keyed.map(([, row]) => row));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
}

const LATEX = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "±": "$\\pm$",
  "×": "$\\times$", "∞": "$\\infty$", "≤": "$\\le$", "≥": "$\\ge$", "−": "$-$", "<": "$<$", ">": "$>$", "|": "$|$",
  "σ": "$\\sigma$", "δ": "$\\delta$", "β": "$\\beta$", "…": "\\dots{}" };
const latexText = (text) => text.replace(/[\\~^±×∞≤≥−<>|σδβ…]|[&%$#_{}]/g, (sign) => LATEX[sign] ?? `\\${sign}`);

const WRITERS = {
  CSV: (rows) => rows.map((row) => row.map((c) => (/[",\r\n]/.test(c) ? `"${c.replaceAll('"', '""')}"` : c)).join(",")),
  LaTeX: (rows, numeric) => [
    "% needs \\usepackage{booktabs}",
    `\\begin{tabular}{${numeric.map((is) => (is ? "r" : "l")).join("")}}`,
    "\\toprule",
    ...rows.flatMap((row, i) => [`${row.map(latexText).join(" & ")} \\\\`, ...(i ? [] : ["\\midrule"])]),
    "\\bottomrule",
    "\\end{tabular}",
  ],
  Markdown: (rows) => {
    const lines = rows.map((row) => `| ${row.map((c) => c.replaceAll("|", "\\|")).join(" | ")} |`);
    return [lines[0], `|${" --- |".repeat(rows[0].length)}`, ...lines.slice(1)];
  },
};

// Returns the rows' texts, the header first
function rowsOf(table) {
  const texts = (row) => [...row.cells].map((cell) => (cell.querySelector("button") ?? cell).textContent.trim());
  return [table.tHead.rows[0], ...table.tBodies[0].rows].map(texts);
}

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // some browsers deny the clipboard to a page that is opened from a file
    const area = Object.assign(document.createElement("textarea"), { value: text });
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    return copied;
  }
  return true;
}

function button(text, action) {
  const made = Object.assign(document.createElement("button"), { type: "button", textContent: text });
  made.addEventListener("click", action);
  return made;
}

function equip(box) {
  const table = box.querySelector("table");
  for (const header of table.tHead.rows[0].cells) {
    const text = header.textContent;
    header.replaceChildren(button(text, () => sortBy(table, header)));
  }
  const bar = Object.assign(document.createElement("div"), { className: "copy" });
  const said = document.createElement("span");
  said.setAttribute("role", "status");
  const numeric = () => [...table.tBodies[0].rows[0].cells].map((cell) => cell.classList.contains("number"));
  const buttons = Object.entries(WRITERS).map(([kind, write]) => {
    const copy = async () => {
      const rows = rowsOf(table);
      const copied = await copyText(`${write(rows, numeric()).join("\n")}\n`);
      const count = `${rows.length - 1} ${rows.length === 2 ? "row" : "rows"}`;
      said.textContent = copied ? `${count} copied` : "this browser does not allow the page to copy";
    };
    const made = button(kind, copy);
    made.setAttribute("aria-label", `Copy ${box.getAttribute("aria-label")} as ${kind}`);
    return made;
  });
  bar.append("Copy as", ...buttons, said);
  box.after(bar);
}

for (const box of document.querySelectorAll(".scroll")) if (box.querySelector("tbody tr")) equip(box);

// ---- The loss curves

function curves(data) {
  const find = (id) => document.getElementById(id);
  const box = find("chart");
  const control = { task: find("task"), multiplier: find("multiplier"), seed: find("seed"), line: find("line") };
  const log = { x: find("log-step"), y: find("log-loss") };
  const ends = [find("from-step"), find("to-step")];
  const picked = [...document.querySelectorAll("#optimizers input")];
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const PROMPT = "Point at a curve to see its values. Drag to zoom, double-click to reset.";
  let plot = null, shown = [], view = {}, focused = null;

  for (const run of data.runs) {
    let step = 0;
    run.steps = run.steps.map((more) => (step += more));
  }

  const colour = (index) => {
    const own = data.optimizers[index].colour;
    return dark.matches && own === "#000000" ? "#ffffff" : own;
  };
  const dash = (index) => {
    const own = data.optimizers[index].colour;
    return [[], [10, 4], [2, 3]][data.optimizers.slice(0, index).filter((one) => one.colour === own).length % 3];
  };
  const name = (run) => `${data.optimizers[run.optimizer].name} ×${run.multiplier} seed ${run.seed}`;

  function chosen() {
    const optimizers = new Set(picked.filter((input) => input.checked).map((input) => Number(input.value)));
    const fits = (select, own, word) => select.value === "all" || (select.value === word ? own : false);
    return data.runs.filter((run) =>
      run.task === Number(control.task.value) && optimizers.has(run.optimizer) &&
      (fits(control.multiplier, run.best, "best") || Number(control.multiplier.value) === run.multiplier) &&
      (fits(control.seed, run.median, "median") || Number(control.seed.value) === run.seed));
  }

  // Returns a run's drawn points; a logarithmic axis leaves out what is not positive
  function points(run) {
    const first = log.x.checked && run.steps[0] === 0 ? 1 : 0;
    const values = run[control.line.value].slice(first);
    return [run.steps.slice(first), log.y.checked ? values.map((value) => (value > 0 ? value : null)) : values];
  }

  function wholeX() {
    const last = Math.max(1, ...shown.map(({ steps }) => steps[steps.length - 1] ?? 1));
    return [log.x.checked ? 1 : 0, last > 1 ? last : 2];
  }

  // Returns the range of the losses between two steps, at most ten times the largest first one: the rest stays
  // readable beside a huge spike
  function fittedY([from, to]) {
    let low = Infinity, high = -Infinity, first = -Infinity;
    for (const run of shown) {
      if (run.loss[0] !== null) first = Math.max(first, run.loss[0]);
      run.points[0].forEach((step, i) => {
        const value = run.points[1][i];
        if (step < from || step > to || value === null) return;
        low = Math.min(low, value);
        high = Math.max(high, value);
      });
    }
    if (low > high) return [0.1, 1];
    if (first > 0) high = Math.min(high, Math.max(10 * first, low));
    if (log.y.checked) return [low / 1.1, high * 1.1];
    const margin = 0.05 * (high - low) || Math.abs(high) || 1;
    return [low - margin, high + margin];
  }

  function zoom(x, y) {
    view = { x: x ?? wholeX(), whole: !x };
    view.y = y ?? fittedY(view.x);
    plot.batch(() => {
      for (const axis of ["x", "y"]) plot.setScale(axis, { min: view[axis][0], max: view[axis][1] });
    });
    ends.forEach((input, i) => (input.value = Math.round(view.x[i])));
  }

  // Finds the run's step that is nearest to the cursor, by bisection
  function nearest(u, series) {
    const [steps] = u.data[series];
    const at = u.posToVal(u.cursor.left, "x");
    let low = 0, high = steps.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (steps[middle] < at) low = middle;
      else high = middle;
    }
    return at - steps[low] <= steps[high] - at ? low : high;
  }

  function readOut(u) {
    const index = focused && u.cursor.left >= 0 ? u.cursor.idxs[focused] : null;
    const [steps, values] = index == null ? [] : u.data[focused];
    find("readout").textContent = steps
      ? `${name(shown[focused - 1])}: step ${steps[index].toLocaleString("en")}, loss ${values[index]}` : PROMPT;
  }

  // Draws a triangle at each spike's peak, or at the upper edge, and a cross where a run diverged
  function mark(u) {
    const { ctx, bbox } = u, size = 5 * devicePixelRatio;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left - size, bbox.top - 2 * size, bbox.width + 2 * size, bbox.height + 2 * size);
    ctx.clip();
    shown.forEach((run, i) => {
      ctx.fillStyle = ctx.strokeStyle = colour(run.optimizer);
      ctx.lineWidth = size / 2.5;
      ctx.globalAlpha = focused && focused !== i + 1 ? 0.25 : 1;
      const place = (step, loss) => [
        u.valToPos(step, "x", true), loss > view.y[0] ? Math.max(bbox.top, u.valToPos(loss, "y", true)) : NaN];
      for (const [step, loss] of run.spikes) {
        const [x, y] = place(step, loss ?? Infinity);
        ctx.beginPath();
        ctx.moveTo(x, y);
        ctx.lineTo(x - size, y - 1.6 * size);
        ctx.lineTo(x + size, y - 1.6 * size);
        ctx.fill();
      }
      const last = run.points[1].findLastIndex((value) => value !== null);
      if (!run.diverged || last < 0) return;
      const [x, y] = place(run.points[0][last], run.points[1][last]);
      ctx.beginPath();
      for (const way of [1, -1]) {
        ctx.moveTo(x - size, y - way * size);
        ctx.lineTo(x + size, y + way * size);
      }
      ctx.stroke();
    });
    ctx.restore();
  }

  // Returns the ticks of a logarithmic axis, also if it is zoomed to less than a decade
  function ticks(u, axis, low, high) {
    const decades = Math.log10(high / low);
    const found = [];
    if (decades > 1) {
      const factors = decades > 4 ? [1] : [1, 2, 5];
      for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
        found.push(...factors.map((factor) => Number(`${factor}e${power}`)));
    } else {
      const raw = (high - low) / 5, unit = 10 ** Math.floor(Math.log10(raw));
      const step = unit * [1, 2, 5, 10].find((factor) => factor * unit >= raw);
      for (let i = Math.ceil(low / step); i * step <= high; i++) found.push(i * step);
    }
    return found.filter((value) => value >= low && value <= high);
  }

  function axis(label, isLog, more) {
    const style = getComputedStyle(document.documentElement);
    const line = { stroke: style.getPropertyValue("--line"), width: 1 };
    const font = "12px system-ui, sans-serif";
    const ofLog = { splits: ticks, filter: (u, splits) => splits,
      values: (u, splits) => splits.map((value) => value.toLocaleString("en", { maximumSignificantDigits: 4 })) };
    return { label, stroke: style.getPropertyValue("--ink"), grid: line, ticks: line, font, labelFont: font, ...more,
      ...(isLog ? ofLog : {}) };
  }

  const size = () => ({ width: box.clientWidth, height: Math.max(300, Math.min(480, box.clientWidth * 0.5)) });

  function draw({ keep = true } = {}) {
    shown = chosen();
    for (const run of shown) run.points = points(run);
    const kept = keep && plot && !view.whole ? [Math.max(view.x[0], log.x.checked ? 1 : 0), view.x[1]] : null;
    focused = null;
    plot?.destroy();
    const scale = (name) => ({ time: false, auto: false, distr: log[name].checked ? 3 : 1, range: () => view[name] });
    const facets = [{ scale: "x", auto: false, sorted: 1 }, { scale: "y", auto: false }];
    const line = (run) => ({ facets, label: name(run), stroke: colour(run.optimizer), dash: dash(run.optimizer),
      width: shown.length > 20 ? 0.75 : 1.25, paths: uPlot.paths.linear(), points: { show: false } });
    view = { x: wholeX(), y: fittedY(wholeX()) };
    plot = new uPlot({
      ...size(),
      mode: 2,
      legend: { show: false },
      focus: { alpha: 0.25 },
      cursor: { dataIdx: nearest, focus: { prox: 1e6 }, points: { one: true, size: 8 }, bind: { dblclick: () => () => zoom() },
        drag: { x: true, y: true, uni: 30, setScale: false } },
      scales: { x: scale("x"), y: scale("y") },
      axes: [axis("step", log.x.checked, {}), axis("training loss", log.y.checked, { size: 64 })],
      series: [{}, ...(shown.length ? shown.map(line) : [{ facets }])],
      hooks: {
        draw: [mark],
        setSeries: [(u, index) => { focused = index; readOut(u); }],
        setCursor: [readOut],
        setSelect: [(u) => {
          const { left, top, width, height } = u.select;
          if (width < 2 && height < 2) return;
          const span = (axis, from, to) => [u.posToVal(from, axis), u.posToVal(to, axis)];
          const wide = width > 0 && width < u.over.clientWidth, high = height > 0 && height < u.over.clientHeight;
          u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          zoom(wide ? span("x", left, left + width) : view.x, high ? span("y", top + height, top) : null);
        }],
      },
    }, [null, ...(shown.length ? shown.map((run) => run.points) : [[[], []]])], box);
    zoom(kept);
    const spikes = shown.reduce((sum, run) => sum + run.spikes.length, 0);
    const diverged = shown.filter((run) => run.diverged).length;
    const total = data.runs.filter((run) => run.task === Number(control.task.value)).length;
    find("drawn").textContent = `${shown.length} of the task's ${total} runs drawn; ▼ ${spikes} ${spikes === 1 ? "spike" : "spikes"}; ✕ ${diverged} diverged.`;
    find("readout").textContent = PROMPT;
    picked.forEach((input, i) => (input.parentElement.querySelector(".swatch").style.background = colour(i)));
    Object.assign(box, { plot, drawn: shown.map(name) }); // for the tests
  }

  function moveCursor(event) {
    const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const way = ways[event.key];
    if (!way) return;
    event.preventDefault();
    const { clientWidth, clientHeight } = plot.over, { left, top } = plot.cursor;
    const inside = (at, by, all) => Math.min(all - 1, Math.max(0, (at < 0 ? all / 2 : at) + (by * all) / 100));
    plot.setCursor({ left: inside(left, way[0], clientWidth), top: inside(top, way[1], clientHeight) });
  }

  ends.forEach((input) => input.addEventListener("change", () => {
    const [from, to] = ends.map((end) => Math.max(Number(end.value), log.x.checked ? 1 : 0)).sort((a, b) => a - b);
    zoom([from, Math.max(to, from + 1)]);
  }));
  for (const input of [...picked, control.multiplier, control.seed, control.line, log.x, log.y])
    input.addEventListener("change", () => draw());
  control.task.addEventListener("change", () => draw({ keep: false }));
  find("reset").addEventListener("click", () => zoom());
  box.addEventListener("keydown", moveCursor);
  dark.addEventListener("change", () => draw());
  find("curves").hidden = false;
  draw();
  new ResizeObserver(() => box.clientWidth !== plot.width && plot.setSize(size())).observe(box);
}

const stored = document.getElementById("curve-data");
if (stored) curves(JSON.parse(stored.textContent));
