// Previous and next of the list that led here. The list's link names the neighbours in the address: files on a disk share nothing else.
"use strict";
(() => {
  const said = new URLSearchParams(location.hash.slice(1));
  const nav = document.getElementById("list");
  const names = (said.get("names") || "").split(",");
  const [first, at, of] = ["first", "at", "of"].map((name) => Number(said.get(name) ?? NaN));
  const isName = (name) => /^([\w-][\w.-]*)?$/.test(name); // empty: that record has no page
  if (!names[at] || !names.every(isName) || ![first, at, of].every((n) => Number.isInteger(n) && n >= 0) || at >= names.length || first + names.length > of) return;
  const list = (changes) => {
    const kept = new URLSearchParams(said.get("list") || "");
    for (const [name, text] of Object.entries(changes)) kept.set(name, text);
    return `../cohort.html#${kept}`;
  };
  const record = (step) => {
    let place = at + step;
    while (names[place] === "") place += step;
    if (first + place < 0 || first + place >= of) return null; // the list has no further page
    if (!names[place]) return list({ open: first + place, step }); // it goes on where the address ends
    const there = new URLSearchParams(said);
    there.set("at", place);
    return `${encodeURIComponent(names[place])}.html#${there}`;
  };
  const link = (words, address, rel) => {
    if (address === null) return;
    const made = document.createElement("a");
    made.textContent = words;
    made.href = address;
    made.rel = rel;
    nav.append(made);
  };
  link("previous record", record(-1), "prev");
  const place = document.createElement("span");
  place.textContent = `${first + at + 1} of ${of} in the list`;
  nav.append(place);
  link("next record", record(1), "next");
  link("back to the list", list({ from: first + at }), "up");
  nav.hidden = false;
})();
