// Keeps the page of an open run up to date: asks for its changing part until the run has ended.
"use strict";

(() => {
  const EVERY_MS = 1500;
  const SLOWEST_MS = 30000;
  const place = document.getElementById("run");
  let wait = EVERY_MS;

  const isOpen = () => place.querySelector("[data-open='true']") !== null;

  async function refresh() {
    try {
      const answer = await fetch(place.dataset.fragment, { credentials: "same-origin", redirect: "error" });
      if (!answer.ok) throw new Error(String(answer.status));
      place.innerHTML = await answer.text();
      wait = EVERY_MS;
    } catch {
      wait = Math.min(wait * 2, SLOWEST_MS);
    }
    if (isOpen()) {
      setTimeout(refresh, wait);
    } else {
      document.getElementById("stop")?.remove();
    }
  }

  if (place && isOpen()) setTimeout(refresh, wait);
})();
