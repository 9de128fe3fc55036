"use strict";
// Asks for /status.json every few seconds; where it says something new, fetches the page again and changes only what
// differs, so that nothing flickers. Ages are counted here.
(() => {
  const EVERY = 3000, spanish = document.documentElement.lang === "es";
  const lost = document.getElementById("lost");
  let last = "", seen = Date.now(), drawn = 0, busy = false;
  // The gateway's clock may not be this one's.
  let skew = Date.parse(document.body.dataset.now) - Date.now();

  const ago = (seconds) => {
    const far = Math.abs(seconds);
    if (far < 2) return spanish ? "ahora" : "now";
    const [count, unit] = far < 90 ? [far, "s"] : far < 5400 ? [far / 60, "min"]
      : far < 129600 ? [far / 3600, "h"] : [far / 86400, "d"];
    const text = Math.floor(count) + " " + unit;
    if (seconds > 0) return spanish ? "hace " + text : text + " ago";
    return (spanish ? "en " : "in ") + text;
  };
  const ages = () => {
    for (const time of document.querySelectorAll("time[datetime]")) {
      const text = ago(Math.floor((Date.now() + skew - Date.parse(time.dateTime)) / 1000));
      if (time.textContent !== text) time.textContent = text;
    }
  };
  const same = (a, b) => a && b && a.nodeName === b.nodeName && (a.id || "") === (b.id || "");
  const morph = (old, now) => {
    if (old.nodeType === Node.TEXT_NODE) {
      if (old.data !== now.data) old.data = now.data;
      return;
    }
    if (old.nodeType !== Node.ELEMENT_NODE || old.isEqualNode(now)) return;
    for (const { name } of [...old.attributes]) if (!now.hasAttribute(name)) old.removeAttribute(name);
    for (const { name, value } of now.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    const before = [...old.childNodes], after = [...now.childNodes];
    after.forEach((child, index) => {
      if (same(before[index], child)) morph(before[index], child);
      else if (before[index]) before[index].replaceWith(child);
      else old.append(child);
    });
    before.slice(after.length).forEach((child) => child.remove());
  };
  const refresh = async () => {
    if (busy || document.hidden) return;
    busy = true;
    try {
      const options = () => ({ cache: "no-store", signal: AbortSignal.timeout(10000) });
      const status = await fetch("/status.json", options());
      // What only counts up is no news.
      const text = (await status.text()).replace(/"(uptime_)?seconds":\d+,?/g, "");
      if (text !== last || !status.ok || Date.now() - drawn > 60000) {
        const page = await fetch("/?lang=" + document.documentElement.lang, options());
        if (!page.ok) throw new Error(page.status);
        const now = new DOMParser().parseFromString(await page.text(), "text/html");
        skew = Date.parse(now.body.dataset.now) - Date.now();
        morph(document.querySelector("header"), now.querySelector("header"));
        morph(document.querySelector("main"), now.querySelector("main"));
        document.title = now.title;
        last = text;
        drawn = Date.now();
      }
      seen = Date.now();
      lost.hidden = true;
    } catch {
      lost.querySelector("span").textContent = new Date(seen).toLocaleTimeString();
      lost.hidden = false;
    }
    busy = false;
    ages();
  };
  setInterval(refresh, EVERY);
  setInterval(ages, 1000);
  document.addEventListener("visibilitychange", refresh);
})();
