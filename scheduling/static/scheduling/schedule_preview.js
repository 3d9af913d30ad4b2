// Says below a schedule, while it is typed, what it means, when it would fire and whom it would meet.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const PAUSE_MS = 300;
  // What else in the form matters; the server takes what is missing here from the stored job.
  const OTHERS = [
    "clock_change", "calendar", "starts_at_0", "starts_at_1", "ends_at_0", "ends_at_1",
    "runs_left", "locks", "lock_resource",
  ];
  const field = document.querySelector("[data-schedule-text]");
  if (!field || !field.dataset.preview) return;

  const place = document.createElement("div");
  place.className = "bk-preview";
  place.setAttribute("aria-live", "polite");
  field.insertAdjacentElement("afterend", place);
  let timer = 0;
  let asked = 0;

  function query() {
    const { elements } = field.form;
    const asks = new URLSearchParams({
      text: field.value.trim(),
      name: elements.namedItem("name")?.value || field.dataset.name,
      job: elements.namedItem("job")?.value || field.dataset.job,
    });
    for (const name of OTHERS) {
      const other = elements.namedItem(name);
      if (other) asks.set(name, other.type === "checkbox" ? other.checked : other.value);
    }
    return asks;
  }

  async function show() {
    const mine = ++asked;
    if (!field.value.trim()) {
      place.replaceChildren();
      return;
    }
    let found = "";
    try {
      const answer = await fetch(`${field.dataset.preview}?${query()}`, {
        credentials: "same-origin",
      });
      if (answer.ok && !answer.redirected) found = await answer.text();
    } catch {
      // Offline: as for any other answer that is none.
    }
    if (mine !== asked) return;
    if (found) place.innerHTML = found;
    else place.textContent = "The preview cannot be shown now.";
  }

  // Selects with a search of their own tell jQuery only.
  const soon = (event) => {
    const { name } = event.target;
    if (event.target !== field && name !== "name" && name !== "job" && !OTHERS.includes(name)) return;
    clearTimeout(timer);
    timer = setTimeout(show, PAUSE_MS);
  };
  field.form.addEventListener("input", soon);
  field.form.addEventListener("change", soon);
  window.django?.jQuery?.(field.form).on("change", "select", soon);
  show();
});
