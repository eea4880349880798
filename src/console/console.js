// Nothing here is needed to read or to act: it refreshes, copies, listens to keys, and finds out the time zone of the browser.
"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("scripted");
  const words = document.body.dataset;

  // The time zone of the browser becomes the value of its button.
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const zones = () => document.querySelectorAll("button[data-zone-of-browser]").forEach((button) => {
    const known = Array.from(button.form.querySelectorAll("button[name=zone]")).some((other) => other.value === zone);
    if (!zone || known) { button.remove(); return; }
    button.value = zone;
    button.textContent = zone;
    button.setAttribute("aria-pressed", String(document.body.dataset.zone === zone));
  });

  // Copies, also where the page did not come over TLS and there is no clipboard for it.
  const copy = async (text) => {
    if (navigator.clipboard && window.isSecureContext) {
      await navigator.clipboard.writeText(text);
      return true;
    }
    const field = document.createElement("textarea");
    field.value = text;
    field.className = "hidden";
    document.body.append(field);
    field.select();
    const copied = document.execCommand("copy");
    field.remove();
    return copied;
  };
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-copy]");
    if (button) {
      const before = button.textContent;
      const copied = await copy(button.dataset.copy).catch(() => false);
      button.textContent = copied ? words.copied : words.notCopied;
      setTimeout(() => { button.textContent = before; }, 1500);
    }
    if (event.target.closest("button[data-close]")) { event.target.closest("dialog").close(); }
    if (event.target.closest("button[data-pause]")) { pause(!isPaused); }
  });

  // Fetches the page again and puts its parts in the place of those that are shown, while no one is in the middle of something.
  let isPaused = false;
  const main = document.querySelector("main[data-live]");
  const pause = (paused) => {
    isPaused = paused;
    document.querySelectorAll("button[data-pause]").forEach((button) => {
      button.setAttribute("aria-pressed", String(paused));
      button.textContent = paused ? words.paused : words.live;
    });
  };
  const isBusy = () => isPaused || document.hidden || String(getSelection()) !== "" ||
    document.querySelector("dialog[open]") || main.querySelector("form :focus, details[open]");
  const refresh = async () => {
    if (isBusy()) { return; }
    const answer = await fetch(location.href, { headers: { "x-console-refresh": "1" }, redirect: "error" }).catch(() => null);
    if (!answer || !answer.ok || isBusy()) { return; }
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    main.querySelectorAll("[data-part]").forEach((part) => {
      const other = fresh.querySelector(`[data-part="${part.dataset.part}"]`);
      if (other && other.innerHTML !== part.innerHTML) { part.innerHTML = other.innerHTML; }
    });
  };
  if (main) { setInterval(refresh, Number(main.dataset.live) * 1000); }

  // Keys: / searches, j and k go through the rows, Enter opens one, r loads the page again, ? shows help.
  let at = -1;
  const rows = () => Array.from(document.querySelectorAll("main tbody tr, main .timeline > li"));
  const go = (by) => {
    const all = rows();
    if (all.length === 0) { return; }
    all.forEach((row) => row.classList.remove("at"));
    at = Math.max(0, Math.min(all.length - 1, at + by));
    all[at].classList.add("at");
    all[at].scrollIntoView({ block: "nearest" });
    const link = all[at].querySelector("a");
    if (link) { link.focus({ preventScroll: true }); }
  };
  document.addEventListener("keydown", (event) => {
    const field = event.target.closest("input, select, textarea");
    if (event.ctrlKey || event.metaKey || event.altKey || (field && event.key !== "Escape")) { return; }
    const search = document.querySelector("input[type=search]");
    const help = document.querySelector("dialog#keys");
    if (event.key === "/" && search) { event.preventDefault(); search.focus(); search.select(); }
    if (event.key === "Escape" && field) { field.blur(); }
    if (event.key === "j") { go(1); }
    if (event.key === "k") { go(-1); }
    if (event.key === "?" && help) { help.open ? help.close() : help.showModal(); }
    if (event.key === "r") { location.reload(); }
  });
  zones();
})();
