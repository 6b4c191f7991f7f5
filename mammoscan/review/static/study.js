"use strict";
/* A study on the page: four views hung right and left back to back, findings and their marks, what is known and from where,
   and what the reader says. */

(() => {
  const { el, say, score, read, pages, feedback } = mammoscan;
  const ROWS = [["CC", "CC", "XCC", "XCCL", "XCCM", "FB"], ["MLO", "MLO", "ML", "LM", "LMO", "SIO", "ISO", "AT"]];
  const shown = { marks: true, below: false, heat: false, dense: false };  // as the reader left it, from study to study
  const SEEN = { "seen-before": "seen before", new: "new", "not-comparable": "not comparable" };
  const NOTHING = { none: "", studies: [], more: "", how: "" };  // of studies that were reported before earlier ones were looked for
  const address = (folder) => `#/study/${encodeURIComponent(folder)}`;
  let aim = null;  // a finding that is to be shown when its study is opened
  const HELP = [
    ["n / p", "next and previous study of the list"], ["Escape", "give up drawing, leave an enlarged view, go back to the list"],
    ["m, l", "marks, those below the operating point as well: on and off"], ["h, d", "heat (Grad-CAM), dense tissue: on and off"], ["i", "invert"], ["0", "fit all views, reset the window"],
    ["v, w, b, c", "move, window, draw a box, draw a circle"], ["1 to 9", "enlarge a view, and back"],
    ["wheel, + and -", "zoom"], ["drag, arrow keys", "move a zoomed view"], ["right drag", "window: up and down the centre, left and right the width"],
    ["u", "mark as unread or read"], ["?", "these keys"],
  ];

  pages.study = async (main, folder, wanted) => {
    main.append(el("p", { class: "muted", text: "loading …" }));
    let study;
    try {
      study = await mammoscan.openStudy(folder);
    } catch {
      if (wanted()) main.replaceChildren(missing(folder));
      return null;
    }
    if (!wanted()) return null;
    main.replaceChildren();
    return new Page(main, study).close;
  };

  function missing(folder) {
    return el("section", { class: "plain" }, el("h1", { text: "No review page" }),
      el("p", { class: "bad", text: `The folder of this study (${folder}) holds no review page that this list can show. Run mammoscan run again, without --no-review; its report.pdf may still be there.` }),
      el("p", {}, el("a", { href: "#/", text: "Back to the work list" })));
  }

  class Page {
    constructor(main, study) {
      Object.assign(this, { study, main, tool: "move", views: new Map(), cards: new Map() });
      this.levels = new mammoscan.viewer.Window();
      this.folder = `studies/${study.folder}`;
      document.title = `mammoscan review: ${study.patient || "patient unknown"}, ${study.date || "date unknown"}`;
      read.set(study.folder, true);
      this.record = feedback.of(study, feedback.reader.name);
      this.build();
      this.levels.listeners.push(() => this.showWindow());
      this.showWindow();
      this.showLayers();
      this.showDrawn();
      this.keys = (event) => this.key(event);
      document.addEventListener("keydown", this.keys);
      this.sizes = new ResizeObserver(() => this.layout());
      for (const view of this.views.values()) this.sizes.observe(view.pane);
      this.layout();
      this.close = () => { document.removeEventListener("keydown", this.keys); this.sizes.disconnect(); };
      say(`study of ${study.patient || "patient unknown"}, ${study.images.length} images`);
      if (this.cards.has(aim)) { const uid = aim; requestAnimationFrame(() => this.select(uid, false)); }
      aim = null;
      mammoscan.worklist.ready().then(() => this.neighbours());
    }

    // ---------------------------------------------------------------- parts of the page

    build() {
      const { study } = this;
      this.grid = el("div", { class: "grid" }, this.hung());
      this.panel = el("aside", { class: "panel", "aria-label": "Findings, feedback and facts" },
        this.findings(), this.breasts(), this.earlierStudies(), this.missedSection(), this.reasons("Failed", "These images should have been analysed and could not be.", study.failed),
        this.reasons("Skipped", "Files of this study that the rules leave out.", study.skipped), this.files(), this.facts(), this.model());
      this.main.append(this.levels.node, this.bar(), this.tools(), el("div", { class: "desk" }, this.grid, this.panel));
    }

    bar() {
      const { study } = this;
      this.before = el("a", { class: "button", text: "‹ Previous", "aria-disabled": "true" });
      this.after = el("a", { class: "button", text: "Next ›", "aria-disabled": "true" });
      this.where = el("span", { class: "muted" });
      const side = (name) => {
        const breast = study.breasts.find((b) => b.side === name);
        return el("span", { class: breast && breast.above ? "score above" : "score" }, `${name} `, el("b", { text: breast ? `${breast.above ? "▲ " : ""}${score(breast.score)}` : "not analysed" }));
      };
      const others = study.breasts.filter((b) => !["R", "L"].includes(b.side)).map((b) => el("span", { class: b.above ? "score above" : "score", text: `${b.title} ${score(b.score)}` }));
      this.earlier = el("span", {});
      return el("header", { class: "bar" },
        el("a", { class: "button", href: "#/", text: "Work list" }),
        el("h1", {}, study.patient || "patient unknown"), el("span", { text: study.date || "date unknown" }),
        el("span", { text: study.age === null ? "age unknown" : `${Math.floor(study.age)} years` }),
        side("R"), side("L"), others, this.earlier, el("span", { class: "grow" }), this.where, this.before, this.after, mammoscan.themeButton());
    }

    tools() {
      const press = (text, key, act, on) => {
        const button = el("button", { type: "button", title: `key ${key}`, "aria-pressed": on === undefined ? null : String(on), text, on: { click: act } });
        return button;
      };
      const tool = (name, text, key) => { const b = press(text, key, () => this.take(name), name === this.tool); this.toolButtons.set(name, b); return b; };
      const layer = (name, text, key) => { const b = press(text, key, () => this.toggle(name), shown[name]); this.layerButtons.set(name, b); return b; };
      this.ramp = el("span", { class: "ramp muted", title: "relative to the strongest part of a region's crop" });
      this.toolButtons = new Map();
      this.layerButtons = new Map();
      this.invertButton = press("Invert", "i", () => this.levels.invert(), false);
      const slider = (label, low, high) => el("input", { type: "range", min: low, max: high, step: 1, "aria-label": label, title: label });
      this.centre = slider("Window centre", 0, 255);
      this.width = slider("Window width", 4, 510);
      for (const node of [this.centre, this.width]) node.addEventListener("input", () => this.levels.set(Number(this.centre.value), Number(this.width.value)));
      const help = el("details", { class: "help" }, el("summary", { text: "Keys" }), el("dl", {}, HELP.map(([key, what]) => [el("dt", { text: key }), el("dd", { text: what })])));
      this.help = help;
      return el("div", { class: "tools", role: "toolbar", "aria-label": "Tools" },
        el("span", { class: "group" }, tool("move", "Move", "v"), tool("window", "Window", "w"), tool("box", "Box", "b"), tool("circle", "Circle", "c")),
        el("span", { class: "group" }, layer("marks", "Marks", "m"), layer("below", "Below the point", "l"), layer("heat", "Heat", "h"), layer("dense", "Dense tissue", "d"), this.ramp),
        el("span", { class: "group" }, this.invertButton, el("label", {}, el("span", { text: "Centre" }), this.centre), el("label", {}, el("span", { text: "Width" }), this.width)),
        press("Fit", "0", () => this.fit()), help,
        el("span", { class: "muted", text: "Reduced pictures: not for primary reading." }));
    }

    /** The images in rows CC, MLO and others, right and left back to back. */
    hung() {
      const rows = [{ R: [], L: [] }, { R: [], L: [] }, { R: [], L: [], U: [] }];
      for (const image of this.study.images) {
        const side = ["R", "L"].includes(image.side) ? image.side : "U";
        const row = side === "U" ? 2 : ROWS.findIndex((views) => views.includes(image.view));
        (rows[row < 0 ? 2 : row][side]).push(image);
      }
      const cells = [];
      let number = 0;
      const nothing = { R: "no right image", L: "no left image", U: "" };
      const add = (image, side) => {
        if (!image) { cells.push(el("div", { class: "view none" }, el("p", { class: "missing", text: nothing[side] }))); return; }
        const wall = { R: "right", L: "left" }[side];
        const view = new mammoscan.viewer.View(image, this.host(), { mirrored: Boolean(wall) && image.wall !== wall, align: wall || "centre" });
        view.key = String(number += 1);
        this.views.set(image.uid, view);
        cells.push(view.figure);
      };
      // The usual views first, one line each; what was taken beside them below.
      const first = (image) => (ROWS.some((views) => views[0] === image.view) ? 0 : 1);
      const lines = [[], []];
      rows.forEach(({ R, L, U = [] }, place) => {
        for (const list of [R, L]) list.sort((a, b) => first(a) - first(b));
        for (let i = 0; i < Math.max(R.length, L.length); i += 1) lines[place === 2 || i ? 1 : 0].push([[R[i], "R"], [L[i], "L"]]);
        for (let i = 0; i < U.length; i += 2) lines[1].push([[U[i], "U"], [U[i + 1], "U"]]);
      });
      const all = lines.flat();
      for (const line of all) for (const [image, side] of line) add(image, side);
      if (!all.length) return [el("p", { class: "missing wide", text: "No image of this study could be analysed: nothing is said about it." })];
      queueMicrotask(() => this.grid.classList.add(all.length === 1 ? "one" : all.length === 2 ? "two" : "many"));
      return cells;
    }

    host() {
      return {
        window: this.levels, folder: this.folder, tool: () => this.tool,
        select: (uid, fromMark) => this.select(uid, fromMark),
        draw: (view, shape) => this.drew(view, shape),
        solo: (view) => this.solo(view),
      };
    }

    findings() {
      const all = this.study.images.flatMap((image) => image.findings.map((finding) => ({ image, finding }))).sort((a, b) => b.finding.score - a.finding.score);
      const above = all.filter(({ finding }) => finding.above).length;
      const list = el("ol", { class: "findings" }, all.map(({ image, finding }) => this.card(image, finding)));
      return el("section", {}, el("h2", { text: `Findings: ${above} at or above the operating point, ${all.length - above} below` }),
        el("p", { class: "muted", text: `Operating point of a finding ${this.study.point.finding.toFixed(3)} (${this.study.point.name}).` }),
        this.reader(), all.length ? list : el("p", { text: "No region is reported. That excludes nothing." }));
    }

    card(image, finding) {
      const pick = el("button", { type: "button", class: "pick", "aria-pressed": "false", on: { click: () => this.select(finding.uid, false) } },
        el("b", { class: "number", text: String(finding.number) }), el("span", { text: `${image.side} ${image.view}`.replaceAll("unknown", "?") }), el("span", { text: finding.kind }),
        el("b", { class: finding.above ? "score above" : "score", text: `${finding.above ? "▲ " : ""}${score(finding.score)}` }));
      const names = ["normal", "benign", "malignant"];
      const size = finding.size === "unknown" ? "size unknown" : `${finding.size} mm, ${finding.area} mm²`;
      const more = el("details", {}, el("summary", { text: "more" }),
        el("p", { text: names.map((name, i) => `${name} ${finding.classes[i].toFixed(2)}`).join(", ") + (finding.lesion ? `. If it is a lesion: ${finding.lesion} (estimate)` : "") }),
        el("table", { class: "features" }, el("caption", { class: "unseen", text: "Features" }), this.study.features.map(([name, unit, formula], i) => (finding.features[i] === "" ? null : el("tr", {}, el("th", { scope: "row" }, name, el("span", { class: "muted", text: formula })), el("td", { class: "number", text: finding.features[i] }), el("td", { text: unit }))))),
        el("p", { class: "muted", text: `${finding.id}; tracking UID ${finding.uid}; centre ${finding.centre.map(Math.round).join(", ")} px` }));
      const item = this.item(`finding/${finding.uid}`, { about: "finding", image: image.uid, number: finding.number, tracking: finding.uid, score: finding.score, box: finding.box, shape: "box", kind: finding.lesion || "" });
      const node = el("li", { class: finding.above ? "card above" : "card", "data-uid": finding.uid }, pick, el("p", { class: "muted", text: `${finding.above ? "at or above" : "below"} the operating point; ${size}${finding.place ? `; ${finding.place}` : ""}` }), this.said(finding), item, more);
      this.cards.set(finding.uid, { node, pick, image, finding });
      return node;
    }

    /** What the earlier study says of a finding, with a way to its counterpart. */
    said(finding) {
      if (!finding.said) return null;
      const earlier = this.study.earlier.studies[0];
      const word = SEEN[finding.seen];
      return el("p", { class: "earlier" }, el("b", { class: `seen-${finding.seen}`, text: word }), `${finding.said.slice(word.length)}. `, finding.then ? this.to(earlier.folder, finding.then, "show it there") : null);
    }

    /** A link to a finding of another study. */
    to(folder, uid, text) {
      return el("a", { href: address(folder), text, on: { click: () => { aim = uid; } } });
    }

    /** Scores and densities of earlier studies, or why there are none. */
    earlierStudies() {
      const { none, studies, more, how } = this.study.earlier || NOTHING;
      if (!none && !studies.length) return null;
      const cell = (study, side) => {
        const breast = study.breasts[side], now = this.study.breasts.find((b) => b.side === side);
        if (!breast) return el("td", { class: "muted", text: "not analysed" });
        const by = now && study.same ? now.score - breast.score : null;
        return el("td", {}, el("b", { text: score(breast.score) }), by === null ? null : el("span", { text: ` ${by < 0 ? "−" : "+"}${Math.abs(by).toFixed(3)} since` }), el("span", { class: "muted", text: ` density ${breast.density || "unknown"}` }));
      };
      return el("section", { class: "before" }, el("h2", { text: "Earlier studies" }),
        none ? el("p", { class: "muted", text: none }) : el("table", { class: "facts" }, el("caption", { class: "unseen", text: "Scores and densities of earlier studies" }),
          el("thead", {}, el("tr", {}, ["Date", "Right", "Left"].map((text) => el("th", { scope: "col", text })))),
          el("tbody", {}, studies.map((study) => el("tr", {}, el("th", { scope: "row" }, el("a", { href: address(study.folder), text: study.date }), study.note ? el("span", { class: "muted", text: ` ${study.note}` }) : null), cell(study, "R"), cell(study, "L"))))),
        more ? el("p", { class: "muted", text: more }) : null,
        how ? el("details", {}, el("summary", { text: "seen before or new: the limits" }), el("p", { class: "muted", text: how })) : null);
    }

    reader() {
      const input = el("input", { type: "text", name: "reader", id: "reader", maxlength: 12, size: 6, autocomplete: "off", value: feedback.reader.name });
      input.addEventListener("change", () => {
        input.value = feedback.reader.clean(input.value);
        feedback.reader.name = input.value;
        mammoscan.again();
      });
      return el("p", { class: "reader" }, el("label", {}, el("span", { text: "Reader's initials" }), input), feedback.reader.name ? null : el("span", { class: "bad", text: "needed for feedback" }));
    }

    breasts() {
      return el("section", {}, el("h2", { text: "Breasts" }), this.study.breasts.map((breast) => el("div", { class: "card" },
        el("p", {}, el("b", { text: breast.title }), ` score `, el("b", { class: breast.above ? "above" : null, text: `${breast.above ? "▲ " : ""}${score(breast.score)}` }), `, ${breast.above ? "at or above" : "below"} the operating point ${this.study.point.breast.toFixed(3)}`),
        el("p", { class: "muted", text: `density ${breast.density || "unknown"}; images: ${breast.images}` }),
        this.item(`breast/${breast.side}`, { about: "breast", side: breast.side, score: breast.score }))));
    }

    missedSection() {
      this.missed = el("div", {});
      return el("section", {}, el("h2", { text: "Missed lesions" }), el("p", { class: "muted", text: "Choose Box or Circle and draw on a view." }), this.missed);
    }

    /** The form of one item; what is said is kept at once. */
    item(key, facts) {
      if (!feedback.reader.name) return null;
      const item = this.record.items[key] || { ...facts };
      return feedback.form(`Feedback on ${facts.about} ${facts.number ?? facts.side ?? ""}`, item, () => { this.record.items[key] = item; this.keep(); });
    }

    keep() {
      const fine = feedback.keep(this.record);
      const clash = this.record.images.filter((image) => {
        const items = Object.values(this.record.items);
        return items.some((i) => i.about === "breast" && i.side === image.side && i.stated === "normal") && items.some((i) => i.image === image.uid && ["benign", "malignant"].includes(i.stated));
      });
      if (this.warning) this.warning.remove();
      const text = !fine ? "The browser has no room left: export the feedback, or this is lost." : clash.length ? "A breast stated normal has a lesion: neither is exported as a label until that is settled." : "";
      this.warning = text ? el("p", { class: "bad", role: "alert", text }) : null;
      if (this.warning) this.panel.prepend(this.warning);
      else say("kept");
    }

    reasons(title, what, list) {
      if (!list.length) return null;
      return el("section", {}, el("h2", { text: `${title}: ${list.length}` }), el("p", { class: "muted", text: what }),
        el("ul", { class: "reasons" }, list.map((r) => el("li", {}, el("b", { text: r.name }), el("br"), `${r.code}: ${r.meaning}${r.detail ? ` (${r.detail})` : ""}. `, el("span", { class: "muted", text: r.remedy })))));
    }

    files() {
      return el("section", {}, el("h2", { text: "Report and objects" }), el("ul", {}, this.study.files.map(([name, title]) => el("li", {}, el("a", { href: `${this.folder}/${encodeURIComponent(name)}`, target: "_blank", rel: "noopener", text: title }), el("span", { class: "muted", text: title === name ? "" : ` ${name}` })))));
    }

    facts() {
      const rows = (facts) => el("table", { class: "facts" }, facts.map(([name, value, source]) => el("tr", {}, el("th", { scope: "row", text: name }), el("td", {}, value, source ? el("span", { class: "muted", text: ` ${source}` }) : null))));
      return el("section", {}, el("h2", { text: "What the headers say" }),
        this.study.deidentified ? el("p", { class: "muted", text: "De-identified: the patient ID is a pseudonym, dates are moved, pictures show the breast alone." }) : null,
        rows(this.study.facts), this.study.images.map((image) => el("details", {}, el("summary", { text: image.title }), rows(image.facts), image.flags.length ? el("p", { text: `Flags: ${image.flags.join(", ")}` }) : null)));
    }

    model() {
      const { model, point, created } = this.study;
      return el("section", {}, el("h2", { text: "Model and limits" }), el("ul", {}, model.limits.map((text) => el("li", { text }))),
        el("p", { class: "muted", text: `${model.name}, ${model.sha256.slice(0, 16)}…; mammoscan ${model.software}; report of ${created}. Operating point ${point.name}: ${point.cost}.` }),
        model.scoring && model.scoring.length ? el("details", { class: "scoring" }, el("summary", { text: "how scores come about" }), el("ul", {}, model.scoring.map((text) => el("li", { text })))) : null,
        el("p", { class: "muted", text: "Heat shows which parts of a region's crop spoke for malignancy, relative to the strongest part of that crop; it is no outline of a lesion and cannot be compared between findings." }));
    }

    // ---------------------------------------------------------------- what hands do

    layout() { for (const view of this.views.values()) view.layout(); }

    take(tool) {
      if ((tool === "box" || tool === "circle") && !feedback.reader.name) {
        document.getElementById("reader").focus();
        say("the reader's initials are needed for feedback");
        return;
      }
      this.tool = tool;
      this.grid.dataset.tool = tool;
      for (const [name, button] of this.toolButtons) button.setAttribute("aria-pressed", String(name === tool));
    }

    toggle(name) {
      shown[name] = !shown[name];
      this.layerButtons.get(name).setAttribute("aria-pressed", String(shown[name]));
      this.showLayers();
      say(`${name} ${shown[name] ? "on" : "off"}`);
    }

    showLayers() {
      this.ramp.classList.toggle("on", shown.heat);
      for (const view of this.views.values()) {
        view.lines.classList.toggle("off", !shown.marks);
        view.lines.classList.toggle("no-below", !shown.below);
        view.heat.classList.toggle("on", shown.heat);
        view.showDense(shown.dense);
      }
    }

    showWindow() {
      const { levels } = this;
      this.centre.value = levels.centre;
      this.width.value = levels.width;
      this.invertButton.setAttribute("aria-pressed", String(levels.inverted));
      for (const view of this.views.values()) if (view.picture) view.picture.style.filter = levels.plain ? "none" : "url(#window)";
    }

    fit() {
      this.levels.reset();
      for (const view of this.views.values()) view.reset();
      this.highlight(null);
    }

    solo(view) {
      const on = !view.figure.classList.contains("solo");
      for (const other of this.views.values()) other.figure.classList.remove("solo");
      view.figure.classList.toggle("solo", on);
      this.grid.classList.toggle("has-solo", on);
      this.layout();
      view.figure.focus({ preventScroll: true });
    }

    highlight(uid) {
      for (const [other, { node, pick }] of this.cards) { node.classList.toggle("selected", other === uid); pick.setAttribute("aria-pressed", String(other === uid)); }
      for (const view of this.views.values()) for (const [other, { group }] of view.marks) group.classList.toggle("selected", other === uid);
    }

    /** From the list: the mark comes into the middle. From the mark: its place in the list does. */
    select(uid, fromMark) {
      const { node, pick, image, finding } = this.cards.get(uid);
      this.highlight(uid);
      const view = this.views.get(image.uid);
      if (fromMark) { node.scrollIntoView({ block: "nearest" }); pick.focus({ preventScroll: true }); }
      else {
        const solo = [...this.views.values()].find((v) => v.figure.classList.contains("solo"));
        if (solo && solo !== view) this.solo(view);
        view.zoomTo(finding.box);
        view.figure.scrollIntoView({ block: "nearest" });
      }
      say(`finding ${finding.number} on ${image.title}, score ${score(finding.score)}`);
    }

    drew(view, { shape, box }) {
      const key = `missed/${view.image.uid}/${box.join("_")}`;
      this.record.items[key] = { about: "missed", image: view.image.uid, decision: "missed", shape, box, stated: "", kind: "", note: "" };
      this.take("move");
      this.keep();
      this.showDrawn();
      const last = this.missed.lastElementChild;
      if (last) { last.scrollIntoView({ block: "nearest" }); last.querySelector("select").focus({ preventScroll: true }); }
    }

    showDrawn() {
      const missed = Object.entries(this.record.items).filter(([, item]) => item.about === "missed");
      const labels = new Map(missed.map(([key], i) => [key, `M${i + 1}`]));
      for (const view of this.views.values()) {
        view.setDrawn(missed.filter(([, item]) => item.image === view.image.uid).map(([key, { shape, box }]) => ({ key, shape, box, label: labels.get(key) })));
      }
      this.missed.replaceChildren(...missed.map(([key, item]) => {
        const image = this.study.images.find((i) => i.uid === item.image);
        const gone = el("button", { type: "button", text: "Remove", on: { click: () => { delete this.record.items[key]; this.keep(); this.showDrawn(); } } });
        return el("div", { class: "card drawn" }, el("p", {}, el("b", { text: labels.get(key) }), ` ${item.shape} on ${image ? image.title : "an image that is gone"} `, gone), feedback.form(`Missed lesion ${labels.get(key)}`, item, () => this.keep()));
      }));
    }

    // ---------------------------------------------------------------- neighbours

    neighbours() {
      const { place, count, before, after } = mammoscan.worklist.around(this.study.folder);
      this.next = after;
      this.previous = before;
      for (const [node, folder] of [[this.before, before], [this.after, after]]) {
        if (folder) { node.href = `#/study/${encodeURIComponent(folder)}`; node.removeAttribute("aria-disabled"); }
      }
      this.where.textContent = place >= 0 ? `${(place + 1).toLocaleString("en")} of ${count.toLocaleString("en")}` : "";
      const row = mammoscan.worklist.rowOf(this.study.folder);
      const said = [];
      if (row && row.prior_folder) said.push("earlier ", el("a", { href: address(row.prior_folder), text: row.prior_date, title: "earlier study of the same patient" }), row.prior_score === null ? "" : ` (${score(row.prior_score)})`);
      const later = mammoscan.worklist.later(this.study.folder);
      for (const { folder, date } of later) said.push(said.length ? ", later " : "later ", el("a", { href: address(folder), text: date, title: "later study of the same patient" }));
      this.earlier.replaceChildren(...said);
      for (const { folder, date } of later) mammoscan.openStudy(folder).then((study) => this.seenAgain(study, date), () => undefined);
      // The next study's pictures come while this one is read.
      if (after) {
        setTimeout(() => mammoscan.openStudy(after).then((study) => {
          for (const image of study.images) if (image.picture) new Image().src = `studies/${study.folder}/${image.picture}`;
        }, () => undefined), 300);
      }
    }

    /** Findings of a later study that were seen before lead there from their counterparts here. */
    seenAgain(study, date) {
      for (const finding of study.images.flatMap((image) => image.findings)) {
        const here = this.cards.get(finding.then);
        if (here) here.pick.after(el("p", { class: "earlier" }, `seen again on ${date}, score then ${score(finding.score)}. `, this.to(study.folder, finding.uid, "show it there")));
      }
    }

    key(event) {
      if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input:not([type=range]),select,textarea")) return;
      const zoom = (factor) => () => { for (const view of this.views.values()) view.zoomBy(factor); };
      const go = (folder) => { if (folder) location.hash = `#/study/${encodeURIComponent(folder)}`; };
      const act = {
        n: () => go(this.next), p: () => go(this.previous), m: () => this.toggle("marks"), l: () => this.toggle("below"), h: () => this.toggle("heat"), d: () => this.toggle("dense"),
        i: () => this.levels.invert(), 0: () => this.fit(), v: () => this.take("move"), w: () => this.take("window"), b: () => this.take("box"), c: () => this.take("circle"),
        u: () => { const yes = !read.has(this.study.folder); read.set(this.study.folder, yes); say(yes ? "read" : "unread"); },
        "+": zoom(1.25), "=": zoom(1.25), "-": zoom(0.8),
        "?": () => { this.help.open = !this.help.open; },
        Escape: () => {
          const solo = [...this.views.values()].find((v) => v.figure.classList.contains("solo"));
          if (this.help.open) this.help.open = false; else if (this.tool !== "move") this.take("move"); else if (solo) this.solo(solo); else location.hash = "#/";
        },
      }[event.key];
      const view = [...this.views.values()].find((v) => v.key === event.key);
      if (act) { event.preventDefault(); act(); } else if (view) { event.preventDefault(); this.solo(view); }
    }
  }
})();
