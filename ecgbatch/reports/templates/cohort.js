// The table of all records: search, filter, sort, a hundred rows at a time. Text is set as text, never as markup.
"use strict";
(() => {
  const ROWS = 100;
  const data = JSON.parse(document.getElementById("data").textContent);
  const table = document.getElementById("records");
  const body = table.tBodies[0];
  const tools = document.getElementById("tools");
  const search = document.getElementById("search");
  const decision = document.getElementById("decision");
  const label = document.getElementById("label");
  const count = document.getElementById("count");
  const back = document.getElementById("back");
  const next = document.getElementById("next");
  const n = data.record.length;
  const order = Uint32Array.from({ length: n }, (_, k) => k);
  let haystack = null;
  let chosen = order;
  let first = 0;

  const option = (select, words, value) => {
    const made = document.createElement("option");
    made.textContent = words;
    made.value = value;
    select.append(made);
  };
  option(decision, "all", "");
  data.decisions.forEach((words, k) => option(decision, words, String(k)));
  option(label, "all", "");
  data.labels.forEach((words, k) => option(label, words, String(k)));

  const probability = (value) =>
    value === null ? "none" : value >= 0.9995 ? "> 0.999" : value < 0.0005 ? "< 0.001" : value.toFixed(3);
  const link = (k) => {
    const slug = data.slug[k] === 0 ? data.record[k].replaceAll("/", "__") : data.slug[k];
    const made = document.createElement("a");
    made.href = "records/" + encodeURIComponent(slug) + ".html";
    const name = document.createElement("bdi");
    name.textContent = data.record[k];
    made.append(name);
    return made;
  };
  const said = (k) => {
    const words = data.decisions[data.decision[k]];
    const status = data.statuses[data.status[k]];
    return status === "set_aside" ? `${words} (${data.reason[k]})` : status === "partial" ? `${words} (partial)` : words;
  };
  const row = (k) => {
    const made = document.createElement("tr");
    const cell = (content, isNumber) => {
      const one = document.createElement("td");
      if (isNumber) one.className = "n";
      one.append(content);
      made.append(one);
    };
    const patient = document.createElement("bdi");
    patient.textContent = data.patient[k];
    cell(link(k));
    cell(patient);
    cell(said(k));
    cell(probability(data.p[k]), true);
    cell(data.low[k] === null ? "none" : `${probability(data.low[k])} to ${probability(data.high[k])}`, true);
    cell(`${data.scored[k]} of ${data.found[k]}`, true);
    cell(data.rate[k] === null ? "unknown" : String(data.rate[k]), true);
    cell(data.labels[data.label[k]]);
    return made;
  };
  const show = () => {
    body.replaceChildren(...Array.from(chosen.subarray(first, first + ROWS), row));
    const last = Math.min(first + ROWS, chosen.length);
    count.textContent = chosen.length ? `${first + 1} to ${last} of ${chosen.length} records` : "no record fits";
    back.disabled = first === 0;
    next.disabled = last >= chosen.length;
  };
  const filter = () => {
    const words = search.value.trim().toLowerCase();
    if (words && !haystack) haystack = data.record.map((name, k) => `${name} ${data.patient[k]} ${data.reason[k]}`.toLowerCase());
    chosen = order.filter(
      (k) =>
        (!words || haystack[k].includes(words)) &&
        (!decision.value || data.decision[k] === Number(decision.value)) &&
        (!label.value || data.label[k] === Number(label.value)),
    );
    first = 0;
    show();
  };
  const sort = (button) => {
    const head = button.closest("th");
    const values = data[button.dataset.key];
    const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
    order.sort((a, b) => {
      const x = values[a];
      const y = values[b];
      if (x === y) return a - b;
      if (x === null || y === null) return x === null ? 1 : -1; // unknown comes last, whichever way
      return (x < y ? -1 : 1) * sign;
    });
    filter();
  };
  table.querySelectorAll("th button").forEach((button) => {
    button.disabled = false;
    button.addEventListener("click", () => sort(button));
  });
  back.addEventListener("click", () => { first = Math.max(0, first - ROWS); show(); });
  next.addEventListener("click", () => { first += ROWS; show(); });
  search.addEventListener("input", filter);
  decision.addEventListener("change", filter);
  label.addEventListener("change", filter);
  tools.hidden = false;
  show();
})();
