// Says below a schedule, while it is typed, what it means and when it would fire.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const PAUSE_MS = 300;
  const field = document.querySelector("[data-schedule-text]");
  if (!field || !field.dataset.preview) return;

  const place = document.createElement("div");
  place.className = "bk-preview";
  field.insertAdjacentElement("afterend", place);
  let timer = 0;
  let asked = 0;

  async function show() {
    const mine = ++asked;
    const text = field.value.trim();
    if (!text) {
      place.replaceChildren();
      return;
    }
    const query = new URLSearchParams({ text, name: field.dataset.name || "" });
    const answer = await fetch(`${field.dataset.preview}?${query}`, { credentials: "same-origin" });
    if (answer.ok && mine === asked) place.innerHTML = await answer.text();
  }

  field.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(show, PAUSE_MS);
  });
});
