"use strict";
/* What readers say: kept in this browser for each study and reader, exported as one table. Its columns are those of the
   labels of `mammoscan audit` and of the manifest of `mammoscan train`. */

mammoscan.feedback = (() => {
  const { el, store, say } = mammoscan;
  const CLASSES = ["normal", "benign", "malignant"];
  const KINDS = ["mass", "calcification", "architectural distortion", "asymmetry"];
  // The same columns, in this order, in mammoscan/review/opinions.py.
  const COLUMNS = ["path", "patient", "laterality", "view", "label", "x0", "y0", "x1", "y1", "kind", "density", "age",
    "sop_instance_uid", "study_instance_uid", "reader", "about", "decision", "stated", "finding_number", "tracking_uid",
    "score", "shape", "note", "model_sha256", "written"];

  const reader = {
    get name() { return store.get("reader") || ""; },
    set name(text) { store.set("reader", text); },
    /** Initials as they are kept: letters and digits. */
    clean: (text) => text.normalize("NFC").replace(/[^\p{L}\p{N}.-]/gu, "").slice(0, 12),
  };

  const place = (who, model, folder) => `said/${encodeURIComponent(who)}/${model.slice(0, 16)}/${folder}`;

  /** What a reader said of a study: {study facts, images, items by key}; an empty one where nothing was said. */
  function of(study, who) {
    const kept = store.get(place(who, study.model.sha256, study.folder));
    return kept ? JSON.parse(kept) : {
      uid: study.uid, folder: study.folder, patient: study.patient, model: study.model.sha256, reader: who, items: {},
      images: study.images.map(({ uid, path, side, view, density, age }) => ({ uid, path, side, view, density, age })),
    };
  }

  function keep(record) {
    for (const [key, item] of Object.entries(record.items)) {
      if (item.about !== "missed" && !item.decision && !item.stated && !item.note) delete record.items[key];
    }
    const name = place(record.reader, record.model, record.folder);
    record.written = new Date().toISOString().slice(0, 19) + "Z";
    if (!Object.keys(record.items).length) { store.remove(name); return true; }
    return store.set(name, JSON.stringify(record));
  }

  /** Records about the studies of this list: a browser keeps those of other folders beside them, which are nobody's business here. */
  const folderOf = (name) => name.split("/").pop();
  const names = () => store.names("said/").filter((name) => mammoscan.worklist.has(folderOf(name)));
  const all = () => names().map((name) => JSON.parse(store.get(name)));

  // ------------------------------------------------------------------ the table

  const LESION = ["benign", "malignant"];

  /** Rows of a record. `label` stands only where it is the truth about the image or a place on it, as the reader stated it:
      lesions with their places, else what was stated of the breast. All else is an opinion, and no label. */
  function rows(record) {
    const items = Object.values(record.items), out = [];
    for (const image of record.images) {
      const here = items.filter((item) => (item.about === "breast" ? item.side === image.side : item.image === image.uid));
      const breast = here.find((item) => item.about === "breast");
      const lesions = here.filter((item) => item.about !== "breast" && LESION.includes(item.stated));
      const contradicted = lesions.length > 0 && breast && breast.stated === "normal";
      for (const item of here) {
        const truth = !contradicted && (item.about === "breast" ? !lesions.length && item.stated : lesions.includes(item));
        const box = item.box || ["", "", "", ""];
        out.push({
          path: image.path, patient: record.patient, laterality: image.side === "unknown" ? "" : image.side,
          view: image.view === "unknown" ? "" : image.view, label: truth ? item.stated : "",
          x0: box[0], y0: box[1], x1: box[2], y1: box[3], kind: item.kind || "", density: image.density, age: image.age ?? "",
          sop_instance_uid: image.uid, study_instance_uid: record.uid, reader: record.reader, about: item.about,
          decision: item.decision || "none", stated: item.stated || "", finding_number: item.number ?? "", tracking_uid: item.tracking || "",
          score: item.score ?? "", shape: item.shape || "", note: item.note || "", model_sha256: record.model, written: record.written,
        });
      }
    }
    return out;
  }

  /** A cell that no spreadsheet takes for a formula, in quotes where it needs them. */
  function cell(value) {
    let text = String(value).replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, " ");
    if (/^[=+\-@]/.test(text) && !/^[+-]?\d+(\.\d+)?$/.test(text)) text = `'${text}`;
    return /[",;\n]/.test(text) || text !== text.trim() ? `"${text.replaceAll('"', '""')}"` : text;
  }

  function table() {
    const lines = all().flatMap(rows).map((row) => COLUMNS.map((name) => cell(row[name])).join(","));
    return [COLUMNS.join(","), ...lines].map((line) => `${line}\n`).join("");
  }

  /** The button that exports, and what brings its count up to date. */
  function exporter() {
    const button = el("button", { type: "button", id: "export", title: "one CSV file: labels for mammoscan audit, manifest for mammoscan train" });
    const update = () => {
      const count = new Set(names().map(folderOf)).size;
      button.disabled = !count;
      button.textContent = `Export feedback on ${count} ${count === 1 ? "study" : "studies"}`;
    };
    button.addEventListener("click", () => {
      const who = [...new Set(all().map((r) => r.reader))].join("-");
      const address = URL.createObjectURL(new Blob([table()], { type: "text/csv;charset=utf-8" }));
      const link = el("a", { href: address, download: `feedback-${who || "reader"}.csv` });
      document.body.append(link);
      link.click();
      link.remove();
      setTimeout(() => URL.revokeObjectURL(address), 10000);
      say("feedback was exported");
    });
    update();
    return { button, update };
  }

  // ------------------------------------------------------------------ forms

  function choice(label, name, options, value, change) {
    const node = el("select", { name }, el("option", { value: "", text: "unknown" }), options.map((o) => el("option", { value: o, text: o })));
    node.value = value || "";
    node.addEventListener("change", () => change(node.value));
    return el("label", {}, el("span", { text: label }), node);
  }

  /** Decision, class and note on one item; `change` is told of every change. */
  function form(title, item, change) {
    const decision = item.about === "missed" ? [] : ["agree", "disagree"].map((word) => {
      const button = el("button", { type: "button", class: "choice", text: word, "aria-pressed": String(item.decision === word) });
      button.addEventListener("click", () => {
        item.decision = item.decision === word ? "" : word;
        for (const other of button.parentNode.querySelectorAll(".choice")) other.setAttribute("aria-pressed", String(other.textContent === item.decision));
        change();
      });
      return button;
    });
    const note = el("input", { type: "text", name: "note", maxlength: 500, value: item.note || "" });
    note.addEventListener("change", () => { item.note = note.value.trim(); change(); });
    return el("fieldset", { class: "said" }, el("legend", { class: "unseen", text: title }),
      decision.length ? el("span", { class: "decision" }, decision) : null,
      choice("True class", "stated", CLASSES, item.stated, (v) => { item.stated = v; change(); }),
      item.about === "breast" ? null : choice("Kind", "kind", KINDS, item.kind, (v) => { item.kind = v; change(); }),
      el("label", { class: "note" }, el("span", { text: "Note" }), note));
  }

  return { reader, of, keep, form, exporter };
})();
