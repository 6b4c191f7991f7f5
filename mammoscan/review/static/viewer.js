"use strict";
/* One image with its marks: zoom, pan, window, what is laid over it, and places that a reader draws. Positions are pixels of
   the stored image; the picture is a reduced one that is stretched over the same rectangle. */

mammoscan.viewer = (() => {
  const { el, svg } = mammoscan;
  const MOST = 12;  // times the size that fits
  const DRAWN = 4;  // pixels on the screen below which a drawn place is a click

  // Google's polynomial for its colour map Turbo (Mikhailov 2019), which the reports use as well.
  function turbo(x) {
    const at = (c) => c[0] + x * (c[1] + x * (c[2] + x * (c[3] + x * (c[4] + x * c[5]))));
    return [
      [0.13572138, 4.6153926, -42.66032258, 132.13108234, -152.94239396, 59.28637943],
      [0.09140261, 2.19418839, 4.84296658, -14.18503333, 4.27729857, 2.82956604],
      [0.1066733, 12.64194608, -60.58204836, 110.36276771, -89.90310912, 27.34824973],
    ].map((c) => Math.max(0, Math.min(255, Math.round(255 * at(c)))));
  }

  function heatCanvas(heat) {
    const canvas = el("canvas", { class: "heat-map", width: heat.columns, height: heat.rows });
    const context = canvas.getContext("2d"), picture = context.createImageData(heat.columns, heat.rows);
    const steps = atob(heat.steps);
    for (let i = 0; i < steps.length; i += 1) {
      const level = steps.charCodeAt(i) / 255;
      picture.data.set([...turbo(level), Math.round(140 * level)], 4 * i);
    }
    context.putImageData(picture, 0, 0);
    return canvas;
  }

  // ------------------------------------------------------------------ window

  /** Window of the grey levels 0 to 255 of all pictures, as one filter. */
  class Window {
    constructor() {
      this.parts = ["R", "G", "B"].map((c) => svg(`feFunc${c}`, { type: "linear", slope: 1, intercept: 0 }));
      this.node = svg("svg", { class: "unseen", "aria-hidden": "true", width: 0, height: 0 },
        svg("filter", { id: "window", "color-interpolation-filters": "sRGB", x: 0, y: 0, width: "100%", height: "100%" }, svg("feComponentTransfer", {}, this.parts)));
      this.listeners = [];
      this.reset();
    }

    reset() { this.centre = 127.5; this.width = 255; this.inverted = false; this.apply(); }

    set(centre, width) {
      this.centre = Math.max(0, Math.min(255, centre));
      this.width = Math.max(4, Math.min(510, width));
      this.apply();
    }

    invert() { this.inverted = !this.inverted; this.apply(); }

    get plain() { return !this.inverted && this.centre === 127.5 && this.width === 255; }

    apply() {
      let slope = 255 / this.width, intercept = 0.5 - this.centre / this.width;
      if (this.inverted) { slope = -slope; intercept = 1 - intercept; }
      for (const part of this.parts) { part.setAttribute("slope", slope); part.setAttribute("intercept", intercept); }
      for (const listener of this.listeners) listener(this);
    }
  }

  // ------------------------------------------------------------------ one image

  class View {
    /** host: window, tool(), select(uid, fromMark), draw(view, shape), solo(view). mirrored: for hanging alone. */
    constructor(image, host, { mirrored, align }) {
      Object.assign(this, { image, host, mirrored, align, zoom: 1, x: 0, y: 0, marks: new Map() });
      const { width, height } = image;
      this.lines = svg("svg", { class: "marks", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "group", "aria-label": `marks on ${image.title}` });
      this.heat = el("div", { class: "heat" });
      this.flip = el("div", { class: mirrored ? "flip mirrored" : "flip" });
      if (image.picture) {
        this.picture = el("img", { class: "picture", src: `${host.folder}/${image.picture}`, alt: `${image.title}, reduced picture`, draggable: "false" });
        this.dense = el("img", { class: "dense", alt: "", draggable: "false" });
        this.flip.append(this.picture, this.dense);
      }
      this.flip.append(this.heat, this.lines);
      this.film = el("div", { class: "film" }, this.flip);
      this.pane = el("div", { class: "pane" }, this.film, image.picture ? null : el("p", { class: "missing", text: image.missing || "The image itself is not shown." }));
      const found = image.findings.length, above = image.findings.filter((f) => f.above).length;
      const name = `${image.side} ${image.view}`.replaceAll("unknown", "?");
      this.scale = el("span", { class: "scale" });
      this.film.style.setProperty("--shape", `${width} / ${height}`);  // printed without a script that sets sizes
      this.figure = el("figure", { class: "view", tabindex: "0", "data-image": image.uid, "data-align": align, "aria-label": `${image.title}, score ${mammoscan.score(image.score)}, ${found} findings, ${above} at or above the operating point. Arrow keys move, plus and minus zoom, Enter enlarges.` },
        el("figcaption", {}, el("b", { text: name }), el("span", { class: image.above ? "above" : null, text: `${image.above ? "▲ " : ""}${mammoscan.score(image.score)}` }),
          mirrored ? el("span", { class: "flag", title: "stored the other way round: turned over for hanging, letters in it read backwards", text: "mirrored" }) : null,
          el("span", { class: "flags", title: image.flags.join(", ") }, image.flags.map((f) => el("span", { class: "flag", text: f }))), this.scale), this.pane);
      for (const finding of image.findings) this.addMark(finding);
      for (const finding of image.findings) if (finding.heat) this.addHeat(finding.heat);
      this.listen();
    }

    addHeat(heat) {
      const canvas = heatCanvas(heat), [x0, y0, x1, y1] = heat.box, { width, height } = this.image;
      Object.assign(canvas.style, { left: `${100 * x0 / width}%`, top: `${100 * y0 / height}%`, width: `${100 * (x1 - x0) / width}%`, height: `${100 * (y1 - y0) / height}%` });
      this.heat.append(canvas);
    }

    addMark(finding) {
      const group = svg("g", { class: `mark ${finding.above ? "above" : "below"}`, tabindex: "0", role: "button", "data-uid": finding.uid, "aria-label": `finding ${finding.number}, ${finding.kind}, score ${mammoscan.score(finding.score)}` },
        svg("polygon", { class: "halo", points: finding.outline }), svg("polygon", { class: "line", points: finding.outline }));
      this.tag(group, String(finding.number));
      group.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); event.stopPropagation(); this.host.select(finding.uid, true); } });
      this.lines.append(group);
      this.marks.set(finding.uid, { group, box: finding.box });
    }

    tag(group, text) { group.append(svg("text", { class: "tag halo", text }), svg("text", { class: "tag", text })); }

    /** Places that the reader drew: [{key, shape, box, label}]. */
    setDrawn(places) {
      for (const [key, mark] of this.marks) if (mark.drawn) { mark.group.remove(); this.marks.delete(key); }
      for (const { key, shape, box, label } of places) {
        const [x0, y0, x1, y1] = box;
        const one = (cls) => (shape === "circle"
          ? svg("ellipse", { class: cls, cx: (x0 + x1) / 2, cy: (y0 + y1) / 2, rx: (x1 - x0) / 2, ry: (y1 - y0) / 2 })
          : svg("rect", { class: cls, x: x0, y: y0, width: x1 - x0, height: y1 - y0 }));
        const group = svg("g", { class: "mark drawn", "data-uid": key, role: "img", "aria-label": `place ${label} drawn by the reader` }, one("halo"), one("line"));
        this.tag(group, label);
        this.lines.append(group);
        this.marks.set(key, { group, box, drawn: true });
      }
      this.layout();
    }

    showDense(yes) {
      if (!this.dense) return;
      if (yes && !this.dense.src) this.dense.src = this.image.dense;
      this.dense.classList.toggle("on", yes);
    }

    // ---------------------------------------------------------------- places

    get size() { return { wide: this.pane.clientWidth, high: this.pane.clientHeight }; }

    get fit() {
      const { wide, high } = this.size;
      return Math.min(wide / this.image.width, high / this.image.height);
    }

    layout() {
      const { wide, high } = this.size;
      if (!wide || !high) return;
      const pixel = this.fit * this.zoom, w = this.image.width * pixel, h = this.image.height * pixel;
      const rest = { left: 0, right: wide - w, centre: (wide - w) / 2 }[this.align];
      this.x = w <= wide ? rest : Math.max(wide - w, Math.min(0, this.x));
      this.y = h <= high ? (high - h) / 2 : Math.max(high - h, Math.min(0, this.y));
      Object.assign(this.film.style, { left: `${this.x}px`, top: `${this.y}px`, width: `${w}px`, height: `${h}px` });
      this.scale.textContent = `${Math.round(100 * pixel * devicePixelRatio)} % of the stored size`;
      this.placeTags(pixel);
    }

    /** Numbers beside their marks, clear of other marks and numbers, upright and of one size at any zoom. */
    placeTags(pixel) {
      const { width, height } = this.image, high = 15, taken = [];
      const shown = ([x0, y0, x1, y1]) => (this.mirrored ? [width - x1, y0, width - x0, y1] : [x0, y0, x1, y1]).map((v) => v * pixel);
      const meet = (a, b) => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
      const boxes = [...this.marks.values()].map((mark) => shown(mark.box));
      for (const mark of this.marks.values()) {
        const own = shown(mark.box), texts = mark.group.querySelectorAll("text"), wide = 10 * texts[0].textContent.length + 2, gap = 4;
        const places = [[own[2] + gap, own[1]], [own[0] - gap - wide, own[1]], [own[0], own[1] - gap - high], [own[0], own[3] + gap],
          [own[2] + gap, own[3] - high], [own[0] - gap - wide, own[3] - high]].map(([x, y]) => [x, y, x + wide, y + high]);
        const inside = places.filter((p) => p[0] >= 0 && p[1] >= 0 && p[2] <= width * pixel && p[3] <= height * pixel);
        const free = inside.filter((p) => ![...taken, ...boxes].some((other) => meet(p, other)));
        const place = free[0] || inside.find((p) => !taken.some((other) => meet(p, other))) || inside[0] || places[0];
        taken.push(place);
        const x = (this.mirrored ? width * pixel - place[0] : place[0]) / pixel, y = (place[1] + high - 3) / pixel;
        for (const text of texts) text.setAttribute("transform", `translate(${x} ${y}) scale(${(this.mirrored ? -1 : 1) / pixel} ${1 / pixel})`);
      }
    }

    /** A point of the window in pixels of the stored image. */
    source(event) {
      const box = this.film.getBoundingClientRect();
      const x = (event.clientX - box.left) / box.width * this.image.width, y = (event.clientY - box.top) / box.height * this.image.height;
      return [this.mirrored ? this.image.width - x : x, y];
    }

    zoomBy(factor, event) {
      const box = this.pane.getBoundingClientRect(), { wide, high } = this.size;
      const px = event ? event.clientX - box.left : wide / 2, py = event ? event.clientY - box.top : high / 2;
      const zoom = Math.max(1, Math.min(MOST, this.zoom * factor)), by = zoom / this.zoom;
      this.x = px - (px - this.x) * by;
      this.y = py - (py - this.y) * by;
      this.zoom = zoom;
      this.layout();
    }

    move(dx, dy) { this.x += dx; this.y += dy; this.layout(); }

    reset() { this.zoom = 1; this.layout(); }

    /** Show a box of the stored image in the middle, with what is around it. */
    zoomTo([x0, y0, x1, y1]) {
      const { wide, high } = this.size, side = 3 * Math.max(x1 - x0, y1 - y0);
      this.zoom = Math.max(1, Math.min(MOST, Math.min(wide, high) / side / this.fit));
      const pixel = this.fit * this.zoom, middle = (x0 + x1) / 2;
      this.x = wide / 2 - (this.mirrored ? this.image.width - middle : middle) * pixel;
      this.y = high / 2 - (y0 + y1) / 2 * pixel;
      this.layout();
    }

    // ---------------------------------------------------------------- hands

    listen() {
      const pane = this.pane;
      pane.addEventListener("wheel", (event) => { event.preventDefault(); this.zoomBy(Math.exp(-event.deltaY / 400), event); }, { passive: false });
      pane.addEventListener("contextmenu", (event) => event.preventDefault());
      pane.addEventListener("dblclick", (event) => { event.preventDefault(); if (this.host.tool() === "move") this.host.solo(this); });
      pane.addEventListener("pointerdown", (event) => this.down(event));
      this.figure.addEventListener("keydown", (event) => {
        if (event.ctrlKey || event.metaKey || event.altKey) return;
        const act = {
          ArrowLeft: () => this.move(40, 0), ArrowRight: () => this.move(-40, 0), ArrowUp: () => this.move(0, 40), ArrowDown: () => this.move(0, -40),
          "+": () => this.zoomBy(1.25), "=": () => this.zoomBy(1.25), "-": () => this.zoomBy(0.8), Enter: () => this.host.solo(this),
        }[event.key];
        if (act) { event.preventDefault(); act(); }
      });
    }

    down(event) {
      const tool = event.button === 2 ? "window" : this.host.tool();
      if (event.button !== 0 && event.button !== 2) return;
      const mark = event.target.closest(".mark:not(.drawn)");
      const start = [event.clientX, event.clientY], from = this.source(event), { window: levels } = this.host;
      const before = { x: this.x, y: this.y, centre: levels.centre, width: levels.width };
      const rubber = tool === "box" || tool === "circle" ? this.lines.appendChild(svg(tool === "box" ? "rect" : "ellipse", { class: "line rubber" })) : null;
      event.preventDefault();
      this.figure.focus({ preventScroll: true });
      this.pane.setPointerCapture(event.pointerId);
      let shape = null;
      const moved = (now) => {
        const dx = now.clientX - start[0], dy = now.clientY - start[1];
        if (tool === "move") { this.x = before.x + dx; this.y = before.y + dy; this.layout(); }
        else if (tool === "window") levels.set(before.centre + dy / 2, before.width + dx);
        else {
          shape = Math.hypot(dx, dy) < DRAWN ? null : this.shape(tool, from, this.source(now));
          if (shape) this.rubber(rubber, shape);
        }
      };
      const done = (now) => {
        pane.removeEventListener("pointermove", moved);
        if (rubber) rubber.remove();
        if (now.type !== "pointerup") return;
        if (shape) this.host.draw(this, shape);
        else if (tool === "move" && mark && Math.hypot(now.clientX - start[0], now.clientY - start[1]) < DRAWN) this.host.select(mark.dataset.uid, true);
      };
      const pane = this.pane;
      pane.addEventListener("pointermove", moved);
      pane.addEventListener("pointerup", done, { once: true });
      pane.addEventListener("pointercancel", done, { once: true });
    }

    /** A box between two corners, or a circle about the first point, kept inside the image. */
    shape(tool, [ax, ay], [bx, by]) {
      const { width, height } = this.image, r = Math.hypot(bx - ax, by - ay);
      const box = tool === "box" ? [Math.min(ax, bx), Math.min(ay, by), Math.max(ax, bx), Math.max(ay, by)] : [ax - r, ay - r, ax + r, ay + r];
      const held = [Math.max(0, box[0]), Math.max(0, box[1]), Math.min(width, box[2]), Math.min(height, box[3])].map((v) => Math.round(v * 10) / 10);
      return held[0] < held[2] && held[1] < held[3] ? { shape: tool, box: held } : null;
    }

    rubber(node, { shape, box: [x0, y0, x1, y1] }) {
      const values = shape === "box" ? { x: x0, y: y0, width: x1 - x0, height: y1 - y0 } : { cx: (x0 + x1) / 2, cy: (y0 + y1) / 2, rx: (x1 - x0) / 2, ry: (y1 - y0) / 2 };
      for (const [name, value] of Object.entries(values)) node.setAttribute(name, value);
    }
  }

  return { View, Window };
})();
