"use strict";
/* What all parts of the page share: elements made of text only, scripts with data, what the browser keeps, the way between
   list and study. Nothing here or elsewhere makes markup out of a text, and nothing is loaded but what lies beside the page. */

const mammoscan = (() => {
  const SVG = "http://www.w3.org/2000/svg";
  const FORMAT = 1, LIST_FORMAT = 2;  // of a study's script, and of the list's

  /** An element. properties: attributes; `text`, `on` (event to function) and `class` are what they say. */
  function fill(node, properties, children) {
    for (const [name, value] of Object.entries(properties || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (name === "text") node.textContent = value;
      else if (name === "on") for (const [event, act] of Object.entries(value)) node.addEventListener(event, act);
      else if (name === "value" || name === "checked") node[name] = value;
      else node.setAttribute(name, value === true ? "" : String(value));
    }
    node.append(...children.flat().filter((child) => child !== null && child !== undefined));
    return node;
  }

  const el = (tag, properties, ...children) => fill(document.createElement(tag), properties, children);
  const svg = (tag, properties, ...children) => fill(document.createElementNS(SVG, tag), properties, children);

  /** Load a script that lies below the folder of the page. */
  function load(path) {
    return new Promise((resolve, reject) => {
      const node = el("script", { src: path });
      node.addEventListener("load", () => { node.remove(); resolve(); });
      node.addEventListener("error", () => { node.remove(); reject(new Error(path)); });
      document.head.append(node);
    });
  }

  // ------------------------------------------------------------------ what the browser keeps

  const PREFIX = "mammoscan/1/";
  const spare = new Map();  // where the browser keeps nothing for this page
  let kept = true;
  try {
    localStorage.setItem(`${PREFIX}test`, "");
    localStorage.removeItem(`${PREFIX}test`);
  } catch {
    kept = false;
  }

  const store = {
    get kept() { return kept; },
    get(name) {
      return kept ? localStorage.getItem(PREFIX + name) : spare.get(name) ?? null;
    },
    /** Keep a text; say whether it is kept. */
    set(name, text) {
      if (!kept) { spare.set(name, text); return true; }
      try {
        localStorage.setItem(PREFIX + name, text);
        return true;
      } catch {
        return false;
      }
    },
    remove(name) {
      if (kept) localStorage.removeItem(PREFIX + name); else spare.delete(name);
    },
    /** The names below a prefix, sorted. */
    names(prefix) {
      const all = kept ? Object.keys(localStorage).filter((n) => n.startsWith(PREFIX)).map((n) => n.slice(PREFIX.length))
        : [...spare.keys()];
      return all.filter((name) => name.startsWith(prefix)).sort();
    },
  };

  const readMarks = new Set(store.names("read/").map((name) => name.slice(5)));
  const read = {
    has: (folder) => readMarks.has(folder),
    set(folder, yes) {
      if (yes) { readMarks.add(folder); store.set(`read/${folder}`, "1"); } else { readMarks.delete(folder); store.remove(`read/${folder}`); }
    },
  };

  // ------------------------------------------------------------------ words

  const say = (text) => { document.getElementById("said").textContent = text; };
  const score = (value) => (value === null || value === undefined ? "none" : value.toFixed(3));

  // ------------------------------------------------------------------ data that scripts bring

  const SAFE = /^[A-Za-z0-9][A-Za-z0-9.-]*$/;  // as folders of studies are named
  const studies = new Map();
  const most = 12;  // studies that are kept in memory

  /** What is said about a study; rejected where its page is missing or of another version. */
  async function study(folder) {
    if (!SAFE.test(folder)) throw new Error("no folder of a study");
    if (!studies.has(folder)) await load(`studies/${folder}/review.js`);
    const found = studies.get(folder);
    if (!found) throw new Error("another study");
    if (found.format !== FORMAT) throw new Error("another version");
    return found;
  }

  function bring(content) {
    studies.delete(content.folder);
    studies.set(content.folder, content);
    while (studies.size > most) studies.delete(studies.keys().next().value);
  }

  // ------------------------------------------------------------------ the way

  const pages = {};  // filled by the parts: `list` and `study`
  let leave = null, turns = 0;

  async function go() {
    const main = document.getElementById("main"), turn = turns += 1, wanted = () => turn === turns;
    const asked = /^#\/study\/([^/]+)$/.exec(location.hash);
    if (leave) leave();
    leave = null;
    main.replaceChildren();
    const page = asked ? pages.study : pages.list;
    const left = await page(main, asked ? decodeURIComponent(asked[1]) : null, wanted) || null;
    if (wanted()) leave = left; else if (left) left();  // somebody went on before it was there
  }

  function theme(name) {
    document.documentElement.dataset.theme = name;
    store.set("theme", name);
  }

  function themeButton() {
    const other = () => (document.documentElement.dataset.theme === "dark" ? "light" : "dark");
    const button = el("button", { type: "button", text: `${other()} page` });
    button.addEventListener("click", () => { theme(other()); button.textContent = `${other()} page`; });
    return button;
  }

  const started = [];
  function list(content) {
    document.getElementById("notice").textContent = content.notice;
    if (store.get("theme") === "light") theme("light");
    if (content.format !== LIST_FORMAT) {
      document.getElementById("main").append(el("p", { class: "bad", text: "This work list is of another version: run `mammoscan review` on the folder." }));
      return;
    }
    for (const start of started) start(content);
    window.addEventListener("hashchange", go);
    go();
  }

  return { el, svg, load, store, read, say, score, pages, started, again: go, themeButton, openStudy: study,
    /* called by scripts with data */ list, study: bring, chunk: null };
})();
