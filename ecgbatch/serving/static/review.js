// The verdict by keys: letters choose while the form has the focus, Enter keeps and goes on, arrows lead to the neighbours.
"use strict";
(() => {
  const form = document.getElementById("verdict");
  const goes = { ArrowLeft: "earlier", ArrowRight: "later" };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
    const target = event.target;
    if (target.matches("textarea, select, input, .sheet, .sheet *, .table, .table *")) return;
    const link = document.getElementById(goes[event.key]);
    if (link) location.assign(link.href);
  });
  if (!form) return;
  form.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("textarea, select")) return;
    if (event.key === "Enter" && event.target.matches("input")) {
      event.preventDefault();
      form.requestSubmit(form.querySelector("button.first"));
      return;
    }
    const chosen = form.querySelector(`input[data-key="${CSS.escape(event.key.toLowerCase())}"]`);
    if (!chosen) return;
    event.preventDefault();
    chosen.checked = true;
    chosen.focus();
  });
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent) event.preventDefault(); // a second press of the same key is no second verdict
    form.dataset.sent = "1";
  });
  window.addEventListener("pageshow", () => delete form.dataset.sent);
})();
