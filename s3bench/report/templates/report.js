// The report page's own script: tables that sort and copy, and the interactive loss curves, which uPlot draws.
"use strict";

// ---- Tables: a click on a header sorts, a text filters, the buttons below copy all rows that are left, in their order

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

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

const IS_NUMBER = /^[\d\-∞]/; // as the page's template has it
const FEW = 10; // rows of a table that needs no filter
const textOf = (cell) => cell.textContent.trim();

// Makes a table sort, filter and copy; rows that the page holds as JSON are read when they are first needed
function equip(box) {
  const name = box.getAttribute("aria-label"), body = box.querySelector("tbody");
  const headers = [...box.querySelector("thead tr").cells], titles = headers.map(textOf);
  const stored = box.nextElementSibling?.matches("script.rows") ? box.nextElementSibling : null;
  const first = [...body.rows].map((row) => [...row.cells].map(textOf));
  const total = stored ? Number(stored.dataset.count) : first.length;
  let all = null, shown = null, most = first.length;
  const rows = () => (all ??= stored ? JSON.parse(stored.textContent) : first);
  const said = element("span", { role: "status" });
  const copied = element("span", { role: "status" });

  function draw() {
    const words = filter.value.toLowerCase().split(/\s+/);
    shown = rows().filter((row) => words.every((word) => row.some((cell) => cell.toLowerCase().includes(word))));
    body.replaceChildren(...shown.slice(0, most).map((row) => element("tr", {}, ...row.map((text) =>
      element("td", { textContent: text, className: IS_NUMBER.test(text) ? "number" : "" })))));
    count();
  }
  function count() {
    const left = shown ? shown.length : total, drawn = Math.min(left, most);
    said.textContent = drawn < left || left < total ? `${drawn} of ${left} rows` + (left < total ? ` that fit, of ${total}` : "") : "";
    more.hidden = drawn === left;
  }
  function sortBy(place) {
    const direction = headers[place].getAttribute("aria-sort") === "ascending" ? -1 : 1;
    const keyed = rows().map((row) => [sortKey(row[place]), row]).sort((a, b) => compare(a[0], b[0], direction));
    all = keyed.map(([, row]) => row);
    for (const other of headers) other.removeAttribute("aria-sort");
    headers[place].setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
    draw();
  }
  async function copy(write) {
    const left = shown ?? rows();
    const done = await copyText(`${write([titles, ...left], left[0]?.map((text) => IS_NUMBER.test(text)) ?? []).join("\n")}\n`);
    const many = `${left.length} ${left.length === 1 ? "row" : "rows"}`;
    copied.textContent = done ? `${many} copied` : "this browser does not allow the page to copy";
  }

  const filter = element("input", { type: "search", autocomplete: "off" });
  const more = button("Show all", () => { most = Infinity; draw(); });
  filter.addEventListener("input", draw);
  filter.setAttribute("aria-label", `Filter ${name}`);
  more.setAttribute("aria-label", `Show all rows of ${name}`);
  headers.forEach((header, place) => header.replaceChildren(button(titles[place], () => sortBy(place))));
  const buttons = Object.entries(WRITERS).map(([kind, write]) => {
    const made = button(kind, () => copy(write));
    made.setAttribute("aria-label", `Copy ${name} as ${kind}`);
    return made;
  });
  const find = total > FEW ? [element("label", {}, "Filter ", filter)] : [];
  (stored ?? box).after(element("div", { className: "bar" }, ...find, said, more, "Copy as", ...buttons, copied));
  count();
}

for (const box of document.querySelectorAll(".scroll")) {
  const folded = box.closest("details:not([open])");
  if (!box.querySelector("tbody tr")) continue;
  if (folded) folded.addEventListener("toggle", () => equip(box), { once: true });
  else equip(box);
}

let opened = []; // details that only print opens
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open])")];
  for (const one of opened) one.open = true;
});
addEventListener("afterprint", () => opened.forEach((one) => (one.open = false)));

// ---- The loss curves

function curves(data) {
  const find = (id) => document.getElementById(id);
  const box = find("chart");
  const control = { task: find("task"), multiplier: find("multiplier"), seed: find("seed"), line: find("line") };
  const log = { x: find("log-step"), y: find("log-loss") };
  const ends = [find("from-step"), find("to-step")];
  const picked = [...document.querySelectorAll("#optimizers .list input")];
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
  const search = find("find-optimizer"); // only where there are many optimizers
  const pick = (checked, inputs) => {
    for (const input of inputs) input.checked = checked;
    draw();
  };
  const listed = () => picked.filter((input) => !input.parentElement.hidden);
  search?.addEventListener("input", () => picked.forEach((input) =>
    (input.parentElement.hidden = !textOf(input.parentElement).toLowerCase().includes(search.value.trim().toLowerCase()))));
  find("pick-all")?.addEventListener("click", () => pick(true, listed()));
  find("pick-none")?.addEventListener("click", () => pick(false, picked));
  find("reset").addEventListener("click", () => zoom());
  box.addEventListener("keydown", moveCursor);
  dark.addEventListener("change", () => draw());
  find("curves").hidden = false;
  draw();
  new ResizeObserver(() => box.clientWidth !== plot.width && plot.setSize(size())).observe(box);
}

const stored = document.getElementById("curve-data");
if (stored) curves(JSON.parse(stored.textContent));
