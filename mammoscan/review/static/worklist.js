"use strict";
/* The work list: all studies, the most suspicious first; sorted, filtered and searched here, a page of rows at a time. */

mammoscan.worklist = (() => {
  const { el, say, score, read, pages } = mammoscan;
  const ROWS = 100;  // on a page
  const AUTOMATIC = 60;  // scripts that are loaded without being asked: with some 1,000 studies each

  let about = null;  // what the list says of itself
  let at = {};  // place of a column in a row
  const rows = [];  // as they come; the rank of a row is its place in the whole list
  const ranks = [];
  const folders = new Set();
  let starts = [];  // how many studies stand before a script, and after the last
  let loaded = 0;  // scripts
  let narrowed = false;  // whether of the last scripts only what matched was kept
  let order = [];  // places in `rows` of what is shown, in the order shown
  const view = { sort: "rank", down: false, query: "", from: "", to: "", above: false, unread: false, failed: false, outside: false, page: 0 };
  let drawn = null;  // redraws the table while the list is on the page

  const COLUMNS = [
    { name: "rank", title: "Rank", number: true },
    { name: "patient", title: "Patient" },
    { name: "accession", title: "Accession" },
    { name: "date", title: "Study date" },
    { name: "age", title: "Age", number: true },
    { name: "right", title: "R score", number: true, down: true },
    { name: "left", title: "L score", number: true, down: true },
    { name: "density", title: "Density" },
    { name: "findings", title: "Findings above", number: true, down: true },
    { name: "failed", title: "Images", number: true, down: true },
    { name: "flags", title: "Flags" },
    { name: "prior_date", title: "Earlier study", down: true },
    { name: "change", title: "Change", number: true, down: true },
    { name: "new", title: "New above", number: true, down: true },
    { name: "read", title: "Read" },
  ];

  // ------------------------------------------------------------------ data

  mammoscan.started.push((content) => {
    about = content;
    content.columns.forEach((name, place) => { at[name] = place; });
    starts = [0];
    for (const [, studies] of content.scripts) starts.push(starts.at(-1) + studies);
    if (content.scripts.length) loadTo(Math.min(AUTOMATIC, content.scripts.length));
  });

  mammoscan.chunk = (name, part) => {
    const start = starts[about.scripts.findIndex(([n]) => n === name)];
    part.forEach((row, i) => {
      if (narrowed && !matches(row)) return;
      rows.push(row);
      folders.add(value(row, "folder"));
      ranks.push(start + i + 1);
    });
  };

  let loading = Promise.resolve();
  function loadTo(last) {
    loading = loading.then(async () => {
      while (loaded < last) {
        const [script, , digest] = about.scripts[loaded], name = `review/studies-${script}.js?v=${digest}`;
        try {
          await mammoscan.load(name);
        } catch {
          say(`A part of the list is missing: ${name}`);
          document.getElementById("main").prepend(el("p", { class: "bad", text: `A part of the list cannot be loaded (${name}): run mammoscan review on the folder.` }));
          return;
        }
        loaded += 1;
        if (drawn && (loaded === 1 || loaded === last || loaded % 10 === 0)) drawn(true);
      }
    });
    return loading;
  }

  const value = (row, name) => row[at[name]];

  function matches(row) {
    if (view.above && !value(row, "above")) return false;
    if (view.failed && !value(row, "failed") && value(row, "score") !== null) return false;
    if (view.outside && !value(row, "outside")) return false;
    if (view.unread && read.has(value(row, "folder"))) return false;
    const date = value(row, "date");
    if (view.from && !(date >= view.from)) return false;
    if (view.to && !(date && date <= view.to)) return false;
    if (view.query) {
      const asked = view.query.toLowerCase();
      if (!["patient", "accession", "folder"].some((name) => value(row, name).toLowerCase().includes(asked))) return false;
    }
    return true;
  }

  function arrange() {
    order = [];
    for (let i = 0; i < rows.length; i += 1) if (matches(rows[i])) order.push(i);
    const column = COLUMNS.find((c) => c.name === view.sort);
    const sign = view.down ? -1 : 1;
    if (view.sort === "rank") {
      if (view.down) order.reverse();
      return;
    }
    const key = view.sort === "read" ? (i) => (read.has(value(rows[i], "folder")) ? 1 : 0) : (i) => rows[i][at[view.sort]];
    const missing = (v) => v === null || v === "";  // last, whichever way it is sorted
    order.sort((a, b) => {
      const x = key(a), y = key(b);
      if (missing(x) || missing(y)) return missing(x) - missing(y) || a - b;
      if (x === y) return a - b;
      return (column.number ? x - y : x < y ? -1 : 1) * sign;
    });
  }

  /** The studies before and after one, as the list is sorted and filtered now. */
  function around(folder) {
    if (!order.length) arrange();
    const place = order.findIndex((i) => value(rows[i], "folder") === folder);
    const name = (n) => (place >= 0 && order[n] !== undefined ? value(rows[order[n]], "folder") : null);
    return { place, count: order.length, before: place > 0 ? name(place - 1) : null, after: name(place + 1) };
  }

  function rowOf(folder) {
    const row = rows.find((r) => value(r, "folder") === folder);
    return row ? Object.fromEntries(about.columns.map((name, i) => [name, row[i]])) : null;
  }

  // ------------------------------------------------------------------ the page

  function points() {
    return about.points.map(([name, threshold]) => `${name}: ${Number(threshold).toFixed(3)}`).join("; ");
  }

  const changed = (by) => (by === null ? "" : `${by < 0 ? "−" : "+"}${Math.abs(by).toFixed(3)}`);

  /** The earlier study of the same patient, with what was said then. */
  function earlier(row, prior) {
    if (!prior) return el("td", { class: "muted", text: value(row, "prior_reason") === "not-certain" ? "not certain" : "", title: value(row, "prior_reason") === "not-certain" ? "studies under this patient's identifier of which it is not certain that they are of one person" : null });
    const said = ["right", "left"].map((side) => [side[0].toUpperCase(), value(row, `prior_${side}`)]).filter(([, v]) => v !== null).map(([side, v]) => `${side} ${score(v)}`);
    const density = value(row, "prior_density");
    return el("td", { class: "earlier" }, el("a", { href: `#/study/${encodeURIComponent(prior)}`, title: "earlier study of the same patient in this folder", text: value(row, "prior_date") }),
      el("span", { class: "muted", text: [...said, density && `density ${density}`].filter(Boolean).join(", ") }));
  }

  pages.list = (main) => {
    document.title = "mammoscan review: work list";
    const exporter = mammoscan.feedback.exporter();
    const count = el("p", { class: "count", id: "count", role: "status" });
    const body = el("tbody");
    const heads = {};
    const head = el("tr", {}, COLUMNS.map((column) => {
      const button = el("button", { type: "button", text: column.title, on: { click: () => sortBy(column) } });
      heads[column.name] = el("th", { scope: "col", class: column.number ? "number" : null }, button);
      return heads[column.name];
    }));
    const pager = el("nav", { class: "pager", "aria-label": "Pages of the list" });
    const more = el("p", { class: "more" });

    function sortBy(column) {
      if (view.sort === column.name) view.down = !view.down;
      else { view.sort = column.name; view.down = Boolean(column.down); }
      view.page = 0;
      draw(true);
      say(`sorted by ${column.title}, ${view.down ? "highest" : "lowest"} first`);
    }

    function draw(again) {
      if (again) arrange();
      const last = Math.max(0, Math.ceil(order.length / ROWS) - 1);
      view.page = Math.min(view.page, last);
      for (const [name, th] of Object.entries(heads)) {
        if (name === view.sort) th.setAttribute("aria-sort", view.down ? "descending" : "ascending"); else th.removeAttribute("aria-sort");
      }
      body.replaceChildren(...order.slice(view.page * ROWS, (view.page + 1) * ROWS).map(line));
      const held = rows.length < about.studies ? ` (${rows.length.toLocaleString("en")} loaded)` : "";
      count.textContent = `${order.length.toLocaleString("en")} of ${about.studies.toLocaleString("en")} studies${held}`;
      pager.replaceChildren(...(last ? [
        step("First", 0, view.page > 0), step("Previous", view.page - 1, view.page > 0),
        el("span", { text: `page ${view.page + 1} of ${last + 1}` }),
        step("Next", view.page + 1, view.page < last), step("Last", last, view.page < last),
      ] : []));
      more.replaceChildren(...rest());
      exporter.update();
    }

    function step(title, page, possible) {
      return el("button", { type: "button", text: title, disabled: !possible, on: { click: () => { view.page = page; draw(false); table.scrollTop = 0; } } });
    }

    function rest() {
      const next = Math.min(loaded + AUTOMATIC, about.scripts.length);
      if (next <= loaded || loaded < AUTOMATIC) return [];
      const load = (narrow, to) => () => { narrowed = narrow; loadTo(to); };
      return [
        el("span", { text: `The ${starts[loaded].toLocaleString("en")} most suspicious studies are loaded. ` }),
        el("button", { type: "button", text: `Load ${(starts[next] - starts[loaded]).toLocaleString("en")} more`, on: { click: load(false, next) } }),
        el("button", { type: "button", text: "Look through all others with this filter", on: { click: load(true, about.scripts.length) } }),
      ];
    }

    function line(i) {
      const row = rows[i], folder = value(row, "folder"), href = `#/study/${encodeURIComponent(folder)}`;
      const cell = (text, cls) => el("td", { class: cls, text: text ?? "" });
      const flags = value(row, "flags").split(";").filter(Boolean);
      const threshold = about.points.length === 1 ? Number(about.points[0][1]) : null;
      const side = (name) => {
        const v = value(row, name);
        const above = v !== null && threshold !== null && v >= threshold;
        return el("td", { class: above ? "number above" : "number", text: v === null ? "" : `${above ? "▲ " : ""}${score(v)}`, title: above ? "at or above the operating point" : null });
      };
      const failed = value(row, "failed"), patient = value(row, "patient") || "unknown";
      const prior = value(row, "prior_folder");
      const mark = el("button", { type: "button", class: "read", "aria-pressed": String(read.has(folder)), text: read.has(folder) ? "read" : "unread", "aria-label": `${patient}: ${read.has(folder) ? "read, mark as unread" : "unread, mark as read"}` });
      mark.addEventListener("click", () => { read.set(folder, !read.has(folder)); draw(view.unread || view.sort === "read"); });
      const made = el("tr", { class: read.has(folder) ? "is-read" : null, "data-folder": folder },
        cell(String(ranks[i]), "number"),
        el("td", {}, el("a", { href, text: patient })),
        cell(value(row, "accession")), cell(value(row, "date")),
        cell(value(row, "age") === null ? "" : String(Math.floor(value(row, "age"))), "number"),
        side("right"), side("left"),
        el("td", { text: value(row, "density"), title: value(row, "density").startsWith("~") ? "estimated from the pixels, no reading" : null }),
        cell(String(value(row, "findings")), "number"),
        el("td", { class: failed || value(row, "score") === null ? "number failed" : "number", text: failed ? `${value(row, "images")}, ${failed} failed` : String(value(row, "images")) }),
        el("td", { class: "flags", title: flags.join(", ") }, flags.slice(0, 3).map((f) => el("span", { class: "flag", text: f })), flags.length > 3 ? el("span", { text: `+${flags.length - 3}` }) : null),
        earlier(row, prior),
        cell(changed(value(row, "change")), "number"), cell(value(row, "new") === null ? "" : String(value(row, "new")), "number"),
        el("td", {}, mark));
      made.addEventListener("click", (event) => { if (!event.target.closest("a,button") && !String(getSelection())) location.hash = href; });
      return made;
    }

    const table = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Work list" },
      el("table", { class: "list" }, el("caption", { class: "unseen", text: "Studies, the most suspicious first" }), el("thead", {}, head), body));

    const field = (label, input) => el("label", {}, el("span", { text: label }), input);
    function input(name, properties) {
      const box = properties.type === "checkbox";
      const node = el("input", { name, ...(box ? { checked: view[name] } : { value: view[name] }), ...properties });
      node.addEventListener("input", () => { view[name] = box ? node.checked : node.value.trim(); view.page = 0; draw(true); });
      return node;
    }
    const filters = el("form", { class: "filters", role: "search", on: { submit: (event) => event.preventDefault() } },
      field("Patient or accession", input("query", { type: "search", placeholder: "code", autocomplete: "off" })),
      field("From", input("from", { type: "date" })), field("To", input("to", { type: "date" })),
      field("Above the operating point", input("above", { type: "checkbox" })),
      field("Unread", input("unread", { type: "checkbox" })),
      field("Failed", input("failed", { type: "checkbox" })),
      field("Outside training", input("outside", { type: "checkbox", title: "images of kinds that the model was not trained on: implants, partial and magnified views, raw images and the like" })),
      el("button", { type: "button", text: "Clear", on: { click: () => { Object.assign(view, { query: "", from: "", to: "", above: false, unread: false, failed: false, outside: false, page: 0 }); for (const n of filters.elements) { if (n.type === "checkbox") n.checked = false; else if (n.name) n.value = ""; } draw(true); } } }));

    main.append(
      el("header", { class: "bar" }, el("h1", { text: "Work list" }), count, exporter.button, mammoscan.themeButton()),
      filters, table, el("footer", { class: "foot" }, pager, more,
        el("p", { class: "muted", text: `▲ at or above the operating point of a breast (${points()}). ~ density estimated from the pixels. Change: of the study's score since the earlier study, where one model scored both. New above: findings at or above the operating point that the earlier study did not report. Scores rank by how much a region looks like the malignant lesions of the training data: no probability of cancer, and a low one excludes nothing. Read marks and feedback are kept in this browser alone.` })));
    if (!mammoscan.store.kept) filters.after(el("p", { class: "bad", text: "This browser keeps nothing for this page: export feedback before you close it." }));
    draw(true);
    drawn = draw;
    const rowsOf = () => [...body.querySelectorAll("a[href^='#/study/']")].filter((a) => a.closest("td").cellIndex === 1);
    function keys(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.target.closest("input,select,textarea")) return;
      const step_ = { j: 1, n: 1, ArrowDown: 1, k: -1, p: -1, ArrowUp: -1 }[event.key];
      if (event.key === "/") { event.preventDefault(); filters.elements.query.focus(); }
      if (!step_) return;
      const links = rowsOf(), here = links.indexOf(document.activeElement);
      const next = links[here < 0 ? 0 : here + step_];
      if (next) { event.preventDefault(); next.focus(); }
    }
    document.addEventListener("keydown", keys);
    return () => { drawn = null; document.removeEventListener("keydown", keys); };
  };

  /** The studies that name this one as their earlier study, by date: of those that are loaded. */
  function later(folder) {
    return rows.filter((r) => value(r, "prior_folder") === folder).map((r) => ({ folder: value(r, "folder"), date: value(r, "date") })).sort((a, b) => (a.date < b.date ? -1 : 1));
  }

  return { around, rowOf, later, has: (folder) => folders.has(folder), ready: () => loading };
})();
