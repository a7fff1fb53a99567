"use strict";
// Asks for status.json again and again. All that it gets are texts of others: they become textContent, never HTML.
const EVERY = 2000; // milliseconds
const find = (id) => document.getElementById(id);
let shown = 0; // the number of the report in the frame
let ready = 0; // that of the last one that was made

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

function fillTable(table, rows) {
  table.replaceChildren(...rows.map((cells, index) => {
    const row = document.createElement("tr");
    row.append(...cells.map((cell) => element(index ? "td" : "th", cell)));
    return row;
  }));
}

function showReport() {
  if (ready === shown) return;
  shown = ready;
  find("report").hidden = false;
  find("report").contentWindow.location.reload(); // the browser keeps the reader's place
}

function aboutReport(report) {
  if (report.at_work) return "The report is being made.";
  if (report.error) return `The report cannot be made: ${report.error}`;
  if (report.current) return "The report is up to date.";
  return report.number ? "There are new results; the report will be made again soon." : "The report comes with the first run that is over.";
}

function show(status) {
  document.title = `s3bench: ${status.results}`;
  find("results").textContent = status.results;
  find("progress").max = status.horizon || 1;
  find("progress").value = status.steps;
  find("steps").textContent = `${status.steps.toLocaleString("en")} of ${status.horizon.toLocaleString("en")} steps`;
  fillTable(find("runs"), status.rows);
  find("lines").replaceChildren(...status.lines.map((line) => element("li", line)));
  find("claims-box").hidden = !status.claims.rows.length && !status.claims.error;
  fillTable(find("claims"), status.claims.rows);
  find("claims-trouble").textContent = status.claims.error;
  ready = status.report.number;
  find("report-state").textContent = aboutReport(status.report);
  if (find("renew").checked || !shown) showReport();
  find("now").hidden = ready === shown;
}

async function look() {
  let trouble = "";
  try {
    const reply = await fetch("status.json");
    if (!reply.ok) throw new Error(`status ${reply.status}`);
    show(await reply.json());
  } catch (error) {
    trouble = `s3bench serve does not answer, this is what it said last (${error.message})`;
  }
  find("trouble").hidden = !trouble;
  find("trouble").textContent = trouble;
  setTimeout(look, EVERY);
}

find("now").addEventListener("click", () => { showReport(); find("now").hidden = true; });
look();
