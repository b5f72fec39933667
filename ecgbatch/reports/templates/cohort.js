// The list of all records: filter, sort, a hundred rows at a time, all of them on paper; what is chosen stands in the address.
// Columns and filters are those that worklist.py declares. Text is set as text, never as markup.
"use strict";
(() => {
  const ROWS = 100;
  const FIRST = 4; // filters always in sight
  const AROUND = 25; // records before and after one whose names its link carries: its page finds its neighbours without this one
  const SIGNS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const made = (tag, words = "", attributes = {}) => {
    const element = document.createElement(tag);
    element.append(words);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  };
  // Control characters and marks that turn the direction of text must not rearrange the page.
  const visible = (text) => text.replace(/[\p{Cc}\p{Cf}\p{Cs}]/gu, "\ufffd");

  // A column: raw[k] to compare, at(k) the value itself; null is unknown and comes last.
  const shortest = (number) => {
    for (let digits = 6; digits < 9; digits += 1) {
      const spelled = Number(number.toPrecision(digits));
      if (Math.fround(spelled) === number) return spelled;
    }
    return Number(number.toPrecision(9));
  };
  const bytes = (text) => Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0)).buffer;
  const decoded = (column) => {
    const isFloat = Boolean(column.float);
    if (column.f4 !== undefined) {
      const raw = new Float32Array(bytes(column.f4));
      return { isFloat, is32: true, raw, at: (k) => (Number.isNaN(raw[k]) ? null : shortest(raw[k])) };
    }
    if (column.i4 !== undefined || column.all) {
      const raw = column.all || new Int32Array(bytes(column.i4));
      return { isFloat, raw, at: (k) => raw[k] };
    }
    const { of, code } = column;
    const place = new Uint8Array(128);
    for (let k = 0; k < 64; k += 1) place[SIGNS.charCodeAt(k)] = k;
    const isWide = of.length > 64;
    const raw = new Uint16Array(data.n);
    for (let k = 0; k < data.n; k += 1) {
      raw[k] = isWide ? place[code.charCodeAt(2 * k)] * 64 + place[code.charCodeAt(2 * k + 1)] : place[code.charCodeAt(k)];
    }
    return { isFloat, of, raw, at: (k) => of[raw[k]] };
  };
  const columns = new Map();
  const column = (name) => {
    if (!columns.has(name)) columns.set(name, decoded(data[`=${name}`]));
    return columns.get(name);
  };
  const isColumn = (name) => Object.hasOwn(data, `=${name}`);
  const value = (name, k) => {
    const found = column(name).at(k);
    if (found !== 0) return found;
    if (name === "report") return `records/${column("record_name").at(k).replaceAll("/", "__")}.html`;
    return name === "patient_id" ? column("record_name").at(k).split("/")[0] : found;
  };
  const hasPage = (k) => value("report", k) !== "";
  const slug = (k) => value("report", k).slice("records/".length, -".html".length);

  // Words for a reader.
  const isWords = new Set(data.several);
  const word = (name, text) => {
    const words = data.words[name] || {};
    if (Object.hasOwn(words, text)) return words[text];
    return name === "reason" ? text : text.replaceAll("_", " ");
  };
  const inWords = (name, text) => (isWords.has(name) ? text.split(" ").filter(Boolean).map((one) => word(name, one)).join(", ") : word(name, text));
  const PLAIN = new Set(["record_name", "patient_id"]);
  const UNKNOWN = { mi_probability: "none", probability_low: "none" };
  const probability = (number) => (number >= 0.9995 ? "> 0.999" : number < 0.0005 ? "< 0.001" : number.toFixed(3));
  const spelled = (one, name, k) => {
    const found = value(name, k);
    if (found === null) return UNKNOWN[one.name] || "unknown";
    if (typeof found === "string") return PLAIN.has(name) ? visible(found) : visible(inWords(name, found));
    if (one.digits === 3) return probability(found);
    return one.digits === undefined ? String(found) : found.toFixed(one.digits);
  };

  // What is chosen: filters by column, q (search), sort (a column, - before it: falling), from (first row). The address has it.
  const WAYS = ["q", "sort", "from", "open", "step"];
  const stated = () => {
    const found = new URLSearchParams(location.hash.slice(1));
    const kept = new URLSearchParams();
    for (const [name, text] of found) if ((WAYS.includes(name) || isColumn(name)) && !kept.has(name)) kept.set(name, text);
    return kept;
  };
  let chosen = new URLSearchParams();
  const sorted = Uint32Array.from({ length: data.n }, (_, k) => k);
  let shown = sorted;
  let first = 0;
  let haystack = null;

  const test = (name, text) => {
    const one = column(name);
    if (text === "unknown" && (!one.of || one.of.includes(null))) return (k) => one.at(k) === null;
    const range = /^(-?[\d.]*)\.\.(-?[\d.]*)$/.exec(text);
    if (range) {
      const round = one.is32 ? Math.fround : Number;
      const low = range[1] === "" ? -Infinity : round(Number(range[1]));
      const high = range[2] === "" ? Infinity : round(Number(range[2]));
      const fits = (number) => number !== null && number >= low && number <= high;
      if (!one.of) return (k) => fits(one.raw[k]);
      const holds = one.of.map(fits);
      return (k) => holds[one.raw[k]];
    }
    const fits = isWords.has(name) ? (words) => words.split(" ").includes(text) : (other) => String(other ?? "") === text;
    if (!one.of) return (k) => fits(value(name, k));
    const holds = one.of.map(fits);
    return (k) => holds[one.raw[k]];
  };
  const filter = () => {
    const tests = [...chosen].filter(([name]) => !WAYS.includes(name)).map(([name, text]) => test(name, text));
    const words = (chosen.get("q") || "").trim().toLowerCase();
    if (words && !haystack) {
      haystack = Array.from({ length: data.n }, (_, k) => `${value("record_name", k)} ${value("patient_id", k)} ${value("reason", k)}`.toLowerCase());
    }
    if (words) tests.push((k) => haystack[k].includes(words));
    shown = tests.length ? sorted.filter((k) => tests.every((fits) => fits(k))) : sorted;
  };
  let sortedBy = "";
  const sort = () => {
    const by = chosen.get("sort") || "";
    if (by === sortedBy) return;
    sortedBy = by;
    const name = by.replace(/^-/, "");
    if (!isColumn(name)) {
      sorted.forEach((_, k) => { sorted[k] = k; });
      return;
    }
    const one = column(name);
    const sign = by.startsWith("-") ? -1 : 1;
    const isPlain = !one.of && !one.is32; // names: some are given by a rule
    const raw = isPlain ? Array.from({ length: data.n }, (_, k) => value(name, k)) : one.raw;
    const unknown = one.of ? one.of.indexOf(null) : -1;
    const isUnknown = one.of ? (x) => x === unknown : (x) => x === null || Number.isNaN(x);
    sorted.forEach((_, k) => { sorted[k] = k; });
    sorted.sort((a, b) => {
      const x = raw[a];
      const y = raw[b];
      if (x === y) return a - b;
      const isLast = isUnknown(x); // unknown comes last, whichever way
      if (isLast || isUnknown(y)) return isLast === isUnknown(y) ? a - b : isLast ? 1 : -1;
      return (x < y ? -1 : 1) * sign;
    });
  };

  // The table.
  const table = byId("records");
  const isBlank = ({ of }) => Boolean(of) && of.length === 1 && ["", "unknown", null].includes(of[0]); // says nothing of any record
  const inTable = data.list.filter((one) => one.is_column && !isBlank(column(one.name)));
  const isNumber = (one) => one.filter === "range" || Boolean(one.then);
  const listed = () => {
    const kept = new URLSearchParams(chosen);
    kept.delete("from");
    kept.delete("open");
    kept.delete("step");
    return kept.toString();
  };
  const address = (place) => {
    const start = Math.max(0, place - AROUND);
    // Of a record without a page the name is empty, and its place is passed over.
    const names = Array.from(shown.subarray(start, place + AROUND + 1), (k) => (hasPage(k) ? slug(k) : ""));
    const said = new URLSearchParams({ list: listed(), first: start, at: place - start, of: shown.length, names: names.join(",") });
    return `records/${encodeURIComponent(slug(shown[place]))}.html#${said}`;
  };
  const row = (place, isLinked) => {
    const k = shown[place];
    const line = document.createElement("tr");
    for (const one of inTable) {
      const cell = line.insertCell();
      if (isNumber(one)) cell.className = "n";
      let words = spelled(one, one.name, k);
      if (one.then && value(one.name, k) !== null) words += ` ${one.then[1]} ${spelled(one, one.then[0], k)}`;
      const shownWords = PLAIN.has(one.name) ? made("bdi", words) : words;
      if (one.name === "record_name" && hasPage(k)) {
        cell.append(made("a", shownWords, { href: isLinked ? address(place) : `records/${encodeURIComponent(slug(k))}.html` }));
      } else cell.append(shownWords);
      for (const name of one.beside || []) {
        const beside = (value(name, k) || "").split(" ").filter((text) => !data.quiet.includes(text)).join(" ");
        if (beside) cell.append(made("span", visible(inWords(name, beside)), { class: "beside" }));
      }
    }
    return line;
  };
  const show = (all) => {
    const last = all ? shown.length : Math.min(first + ROWS, shown.length);
    const lines = document.createDocumentFragment();
    for (let place = all ? 0 : first; place < last; place += 1) lines.append(row(place, !all));
    table.tBodies[0].replaceChildren(lines);
  };
  const heads = new Map();
  const head = () => {
    const line = document.createElement("tr");
    for (const one of inTable) {
      const cell = made("th", "", { scope: "col" });
      if (isNumber(one)) cell.className = "n";
      const button = made("button", one.title, { type: "button", "data-key": one.name });
      button.addEventListener("click", () => go({ sort: chosen.get("sort") === one.name ? `-${one.name}` : one.name, from: "" }));
      cell.append(button);
      line.append(cell);
      heads.set(one.name, cell);
    }
    table.tHead.replaceChildren(line);
  };

  // Controls.
  const tools = byId("tools");
  const pages = byId("pages");
  const rest = made("details");
  const controls = new Map();
  const labelled = (title, control) => {
    const label = made("label", title);
    label.append(document.createElement("br"), control);
    return label;
  };
  const search = made("input", "", { id: "search", type: "search", autocomplete: "off" });
  const select = (one) => {
    const { of } = column(one.name);
    const made_ = made("select", "", { id: `f-${one.name}` });
    const known = of ? [...new Set(of.flatMap((text) => (one.filter === "words" ? text.split(" ") : [text])))] : [];
    made_.append(made("option", "all", { value: "" }));
    for (const text of known) {
      if (text) made_.append(made("option", visible(word(one.name, text)), { value: text }));
    }
    made_.addEventListener("change", () => go({ [one.name]: made_.value, from: "" }));
    controls.set(one.name, (text) => {
      made_.value = text;
    });
    return made_.options.length > 1 ? labelled(one.title, made_) : "";
  };
  const range = (one) => {
    const box = made("fieldset", made("legend", one.title));
    const ends = ["from", "to"].map((end) => {
      const input = made("input", "", { type: "number", step: "any", "aria-label": `${one.title} ${end}`, id: `f-${one.name}-${end}` });
      box.append(input, end === "from" ? " to " : "");
      return input;
    });
    const changed = () => {
      const [low, high] = ends.map((input) => input.value);
      go({ [one.name]: low || high ? `${low}..${high}` : "", from: "" });
    };
    ends.forEach((input) => input.addEventListener("change", changed));
    controls.set(one.name, (text) => {
      const parts = text.includes("..") ? text.split("..") : ["", ""];
      ends.forEach((input, k) => { input.value = parts[k]; });
    });
    return box;
  };
  const button = (words, act, attributes = {}) => {
    const one = made("button", words, { type: "button", ...attributes });
    one.addEventListener("click", act);
    return one;
  };
  const back = button("Back", () => go({ from: String(Math.max(0, first - ROWS)) }), { id: "back" });
  const next = button("Next", () => go({ from: String(first + ROWS) }), { id: "next" });
  const count = made("span", "", { id: "count" });
  const clear = button("All records", () => { location.hash = "#all"; }, { id: "clear" });
  const build = () => {
    const asked = data.list.filter((one) => one.filter && !isBlank(column(one.name)));
    const filters = asked.map((one) => (one.filter === "range" ? range(one) : select(one))).filter(Boolean);
    rest.append(made("summary", "More filters"), made("div"));
    rest.lastChild.append(...filters.slice(FIRST));
    tools.append(labelled("Search record, patient or reason", search), ...filters.slice(0, FIRST), rest);
    tools.append(clear, button("Save as CSV", save, { id: "csv" }), button("Print", () => print(), { id: "print" }));
    pages.append(back, next, count);
    search.addEventListener("input", () => go({ q: search.value, from: "" }, isTyping));
    search.addEventListener("input", () => { isTyping = true; });
    search.addEventListener("blur", () => { isTyping = false; });
  };

  // The address. Back and forward come here too; a letter more of a search is no step back.
  let isTyping = false;
  let applied = null;
  const go = (changes, isSmall = false) => {
    const wanted = new URLSearchParams(chosen);
    wanted.delete("open");
    wanted.delete("step");
    for (const [name, text] of Object.entries(changes)) {
      if (text && text !== "0") wanted.set(name, text);
      else wanted.delete(name);
    }
    const hash = `#${wanted}`;
    if (isSmall) location.replace(hash);
    else location.hash = hash;
    apply();
  };
  const apply = () => {
    if (location.hash === applied) return false;
    applied = location.hash;
    chosen = stated();
    sort();
    filter();
    let open = Number(chosen.get("open") ?? NaN);
    const step = Number(chosen.get("step") ?? NaN) === -1 ? -1 : 1;
    while (chosen.has("open") && open >= 0 && open < shown.length && !hasPage(shown[open])) open += step;
    if (chosen.has("open") && open >= 0 && open < shown.length) {
      location.replace(address(open)); // a record's page asked for a neighbour that its address does not name
      return false;
    }
    first = Math.min(Number.parseInt(chosen.get("from") || "0", 10) || 0, Math.max(0, shown.length - 1));
    first = Math.max(0, first - (first % ROWS));
    if (search.value !== (chosen.get("q") || "")) search.value = chosen.get("q") || "";
    for (const [name, set] of controls) set(chosen.get(name) || "");
    if ([...rest.querySelectorAll("input, select")].some((one) => one.value)) rest.open = true;
    for (const [name, cell] of heads) {
      const by = chosen.get("sort") || "";
      if (by === name || by === `-${name}`) cell.setAttribute("aria-sort", by === name ? "ascending" : "descending");
      else cell.removeAttribute("aria-sort");
    }
    tell();
    show(false);
    return true;
  };
  const titles = new Map(data.list.map((one) => [one.name, one.title]));
  const tell = () => {
    const last = Math.min(first + ROWS, shown.length);
    count.textContent = shown.length ? `${first + 1} to ${last} of ${shown.length} records` : "no record fits";
    back.disabled = first === 0;
    next.disabled = last >= shown.length;
    const filters = [...chosen].filter(([name]) => !WAYS.includes(name)).map(([name, text]) => {
      const title = titles.get(name) || name.replaceAll("_", " ");
      return `${title}: ${visible(text.replace("..", " to ") === text ? word(name, text) || "none" : text.replace("..", " to "))}`;
    });
    if (chosen.get("q")) filters.push(`search: ${visible(chosen.get("q"))}`);
    const by = (chosen.get("sort") || "").replace(/^-/, "");
    const order = isColumn(by) ? `sorted by ${titles.get(by) || by}${chosen.get("sort") === by ? "" : ", falling"}` : "in the order of reading";
    byId("said").textContent = `${shown.length} of ${data.n} records, ${order}${filters.length ? `. ${filters.join("; ")}` : ""}.`;
    clear.disabled = shown.length === data.n;
  };

  // The chosen records as scores.csv has them: the same columns, the same cells.
  const asPython = (number) => {
    if (Number.isInteger(number) && Math.abs(number) < 1e16) return `${Object.is(number, -0) ? "-0" : number}.0`;
    if (Math.abs(number) >= 1e-4 && Math.abs(number) < 1e16) return String(number);
    return number.toExponential().replace(/e([+-])(\d)$/, "e$10$2");
  };
  const cell = (name, k) => {
    const found = value(name, k);
    if (found === null || found === undefined) return "";
    if (typeof found === "number") return column(name).isFloat ? asPython(found) : String(found);
    const text = (/^[=+\-@\t\r]/.test(found) ? `'${found}` : found).replace(/\p{Cs}/gu, "?");
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const save = () => {
    const lines = [data.csv.join(",")];
    for (const k of shown) lines.push(data.csv.map((name) => cell(name, k)).join(","));
    const file = URL.createObjectURL(new Blob([lines.join("\n"), "\n"], { type: "text/csv;charset=utf-8" }));
    const link = made("a", "", { href: file, download: shown.length === data.n ? "scores.csv" : "scores-chosen.csv" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(file), 60000);
  };

  head();
  build();
  for (const element of [tools, pages, byId("said")]) element.hidden = false;
  window.addEventListener("hashchange", () => { apply(); });
  window.addEventListener("beforeprint", () => show(true));
  window.addEventListener("afterprint", () => show(false));
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#"]');
    if (!link) return;
    setTimeout(() => { byId("list").scrollIntoView(); byId("list").focus({ preventScroll: true }); });
  });
  const isAsked = location.hash.length > 1;
  if (apply() && isAsked && [...chosen].length) byId("list").scrollIntoView();
})();
