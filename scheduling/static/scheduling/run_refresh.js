// Keeps the page of an open run up to date: asks for its changing parts until the run has ended.
"use strict";

(() => {
  const EVERY_MS = 1500;
  const SLOWEST_MS = 30000;
  const AT_END_PX = 24;
  const place = document.getElementById("run");
  let wait = EVERY_MS;

  const isOpen = () => place.querySelector("[data-open='true']") !== null;
  const output = () => document.getElementById("output");
  const part = (root, name) => root.querySelector(`[data-part='${name}']`);

  // Who has scrolled up reads there; who is at the end follows it.
  function replaceOutput(fresh) {
    const before = output();
    const top = before ? before.scrollTop : 0;
    const follows = !before || before.scrollHeight - top - before.clientHeight < AT_END_PX;
    part(place, "written").replaceWith(fresh);
    const after = output();
    if (after) after.scrollTop = follows ? after.scrollHeight : top;
  }

  function replaceParts(text) {
    const found = new DOMParser().parseFromString(text, "text/html");
    for (const fresh of [...found.querySelectorAll("[data-part]")]) {
      const old = part(place, fresh.dataset.part);
      // What stays as it is keeps what is selected and unfolded in it.
      if (fresh.dataset.mark !== undefined && fresh.dataset.mark === old.dataset.mark) continue;
      if (fresh.dataset.part === "written") replaceOutput(fresh);
      else old.replaceWith(fresh);
    }
  }

  async function refresh() {
    try {
      const seen = encodeURIComponent(part(place, "written").dataset.mark);
      const answer = await fetch(`${place.dataset.fragment}?seen=${seen}`, {
        credentials: "same-origin",
        redirect: "error",
      });
      if (!answer.ok) throw new Error(String(answer.status));
      replaceParts(await answer.text());
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

  if (place && isOpen()) {
    if (output()) output().scrollTop = output().scrollHeight;
    setTimeout(refresh, wait);
  }
})();
