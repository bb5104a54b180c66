"use strict";
/* The list of all pages: filters, search, keys, and the page that is open. Data reach the document as text only. */
(() => {
  const PART = 50;
  const ENDS = ["loop", "truncation"]; // kinds that the way a page ended says already
  const UNSAFE = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufff9-\ufffb]/u;
  const UNSEEN = /[\p{C}\p{Z}]/u;
  const find = (id) => document.getElementById(id);
  const { rows, names, finish, kinds } = JSON.parse(find("data").textContent);
  const [section, form, list] = ["pages", "filters", "list"].map(find);
  const search = form.elements.namedItem("q");
  const selects = [...form.querySelectorAll("select")].filter((select) => select.name !== "sort");
  const compared = rows.some((row) => row.before);
  let images = null;
  let found = rows;
  let part = 0;
  let current = -1;
  let opened = false;

  const element = (name, properties, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };
  const percent = (rate) => `${(100 * rate).toFixed(1)}\u00a0%`;
  const shift = (row) => (row.before ? row.cer - row.before[0] : 0);
  const nameOf = (character) =>
    names[character] ?? `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;

  /* Text with the characters of a pattern shown by name. */
  const pieces = (text, pattern) => {
    const made = [];
    let plain = "";
    for (const character of text) {
      if (!pattern.test(character)) {
        plain += !plain && pattern === UNSEEN && /^\p{M}/u.test(character) ? `\u25cc${character}` : character;
        continue;
      }
      if (plain) made.push(plain);
      plain = character === "\n" ? "\n" : "";
      made.push(element("span", { className: "named", textContent: nameOf(character) }));
    }
    if (plain) made.push(plain);
    return made;
  };
  const mark = (name, className, title, text) => element(name, { className, title }, ...pieces(text, UNSEEN));

  /* --- a page's texts ------------------------------------------------------------------------------------ */

  const steps = (row, edits, take) => {
    const text = Array.from(row.reference ?? "");
    let at = 0;
    for (let place = 0; place < edits.length; place += 3) {
      take(text.slice(at, at + edits[place]).join(""), "", "");
      at += edits[place];
      take("", text.slice(at, at + edits[place + 1]).join(""), edits[place + 2]);
      at += edits[place + 1];
    }
    take(text.slice(at).join(""), "", "");
  };
  const prediction = (row, edits = row.edits ?? []) => {
    let text = "";
    steps(row, edits, (same, _, read) => { text += same + read; });
    return text;
  };
  const difference = (row, edits) => {
    const made = [];
    steps(row, edits, (same, wanted, read) => {
      if (same) made.push(...pieces(same, UNSAFE));
      else if (wanted && read) {
        made.push(mark("del", "wrong", "read wrongly", read), mark("ins", "wrong", "should be", wanted));
      } else if (wanted) made.push(mark("del", "missing", "not read", wanted));
      else if (read) made.push(mark("ins", "extra", "not on the page", read));
    });
    return made;
  };
  const withUnsure = (row) => {
    const text = Array.from(prediction(row));
    const low = row.low ?? [];
    const made = [];
    let at = 0;
    for (let place = 0; place < low.length; place += 3) {
      made.push(...pieces(text.slice(at, low[place]).join(""), UNSAFE));
      const title = `confidence ${low[place + 2]} %`;
      const inner = pieces(text.slice(low[place], low[place + 1]).join(""), UNSAFE);
      made.push(element("mark", { className: "unsure", title }, ...inner));
      at = low[place + 1];
    }
    return [...made, ...pieces(text.slice(at).join(""), UNSAFE)];
  };

  /* --- the page that is open ----------------------------------------------------------------------------- */

  const paragraph = (row, children, className = "page") =>
    children.length
      ? element("p", { className, dir: className === "page" ? "auto" : row.direction ?? "ltr", lang: row.language ?? "" }, ...children)
      : element("p", { className: "page empty", textContent: "nothing" });
  const cut = (count) =>
    count ? [element("p", { className: "note", textContent: `… ${count.toLocaleString("en")} more characters are not shown` })] : [];
  const picture = (row) => {
    const place = row.place ?? 0;
    images ??= JSON.parse(find("images").textContent);
    const shown = document.querySelector(`article:not(.opened) img[data-place="${place}"]`);
    const [src, width] = shown ? [shown.src, shown.width] : images[place] ?? [];
    const words = row.path ? ["The image is not in this file: ", element("bdi", { textContent: row.path })] : ["The image is not in this file"];
    return src
      ? element("figure", { className: "picture" }, element("img", { src, width, alt: `Image of ${row.id}` }))
      : element("p", { className: "picture none" }, ...words);
  };
  const facts = (row) => [
    `place ${(row.place ?? 0) + 1}`,
    ...(row.group ? [`document ${row.group}`] : []),
    `${row.length ?? 0} characters`,
    ...(row.confidence === undefined || row.confidence === null ? [] : [`confidence ${percent(row.confidence)}`]),
    ...selects.filter((select) => select.dataset.dimension).map((select) => {
      const option = select.options[row.labels[select.dataset.dimension] + 1];
      return `${select.parentElement.firstChild.textContent.trim()}: ${option ? option.textContent : "other"}`;
    }),
  ].map((text) => element("span", {}, element("bdi", { textContent: text })));
  const pageOf = (row) => {
    const terms = [];
    const add = (name, ...content) => terms.push(element("dt", { textContent: name }), element("dd", {}, ...content));
    const [missing, unread] = row.cut ?? [0, 0];
    add("Reference", paragraph(row, pieces(row.reference ?? "", UNSAFE)), ...cut(missing));
    if (row.before) {
      add(`Before, ${percent(row.before[0])}`, paragraph(row, difference(row, row.before[1]), "page diff"));
    }
    if (row.error) add("Failed", element("p", { className: "page bad", textContent: row.error }));
    else {
      add("Prediction", paragraph(row, withUnsure(row)), ...cut(unread));
      const none = element("p", { className: "page empty", textContent: "none" });
      add("Difference", row.edits ? paragraph(row, difference(row, row.edits), "page diff") : none);
    }
    return element(
      "article",
      { className: "card opened" },
      picture(row),
      element("dl", {}, ...terms),
      element("p", { className: "note facts-line" }, ...facts(row)),
    );
  };

  /* --- the list ------------------------------------------------------------------------------------------ */

  const start = (row) => pieces(Array.from(row.reference ?? "").slice(0, 90).join("").replace(/\s+/gu, " "), UNSAFE);
  const lineOf = (row, number) => {
    const others = (row.kinds ?? []).map((kind) => kinds[kind]).filter((kind) => !row.ended || !ENDS.includes(kind));
    const tags = others.slice(0, 3).map((kind) => element("span", { className: "tag", textContent: kind }));
    if (row.ended) tags.unshift(element("span", { className: "tag bad", textContent: finish[row.ended] }));
    const change = shift(row);
    const sign = change < 0 ? "good" : change > 0 ? "bad" : "";
    const moved = change ? `${change < 0 ? "−" : "+"}${Math.abs(100 * change).toFixed(1)}` : "";
    const button = element(
      "button",
      { type: "button", className: "row" },
      element("span", { className: "num rate", textContent: percent(row.cer) }),
      ...(compared ? [element("span", { className: `num moved ${sign}`, textContent: moved })] : []),
      element("span", { className: "who" }, element("bdi", { className: "name", textContent: row.id }),
        element("bdi", { className: "start", dir: "auto", lang: row.language ?? "" }, ...start(row))),
      element("span", { className: "tags" }, ...tags),
    );
    button.setAttribute("aria-expanded", String(opened && number === current));
    button.addEventListener("click", () => go(number, !(opened && number === current)));
    return element("li", {}, button);
  };
  const buttonAt = (number) => list.children[number - part * PART]?.firstElementChild;
  const show = () => {
    const last = Math.max(0, Math.ceil(found.length / PART) - 1);
    part = Math.min(Math.max(part, 0), last);
    const first = part * PART;
    list.replaceChildren(...found.slice(first, first + PART).map((row, place) => lineOf(row, first + place)));
    list.start = first + 1;
    find("where").textContent = found.length ? `${first + 1}–${Math.min(first + PART, found.length)} of ${found.length.toLocaleString("en")}` : "";
    find("previous").disabled = part === 0;
    find("next").disabled = part === last;
    const all = found.length === rows.length ? "" : ` of ${rows.length.toLocaleString("en")}`;
    find("count").textContent = `${found.length.toLocaleString("en")}${all} page${rows.length === 1 ? "" : "s"}`;
    if (opened && buttonAt(current)) buttonAt(current).after(pageOf(found[current]));
    remember();
  };
  const go = (number, open, focus = true) => {
    if (!found.length) return;
    const close = buttonAt(current);
    close?.nextElementSibling?.remove();
    close?.setAttribute("aria-expanded", "false");
    current = Math.min(Math.max(number, 0), found.length - 1);
    opened = open;
    if (Math.floor(current / PART) !== part) {
      part = Math.floor(current / PART);
      show();
    } else if (opened) {
      buttonAt(current).after(pageOf(found[current]));
      buttonAt(current).setAttribute("aria-expanded", "true");
    }
    if (focus) buttonAt(current).focus({ preventScroll: true });
    buttonAt(current).scrollIntoView({ block: opened ? "start" : "nearest" });
    remember();
  };
  const turn = (by) => {
    part += by;
    opened = false;
    show();
    go(part * PART, false);
  };

  /* --- filters, search, order ----------------------------------------------------------------------------- */

  const folded = (text) =>
    text.normalize("NFKC").toLowerCase().replace(/[\u200c\u200d\u0640\u064b-\u0652]/gu, "")
      .replace(/[\u064a\u0649]/gu, "\u06cc").replace(/\u0643/gu, "\u06a9").replace(/\s+/gu, " ").trim();
  const haystack = (row) => (row.folded ??= folded(`${row.id}\n${row.reference ?? ""}\n${prediction(row)}`));
  const tests = {
    band: (row, value) => (row.band ?? 0) === Number(value),
    ended: (row, value) => (row.ended ?? "stop") === value,
    kind: (row, value) => (row.kinds ?? []).includes(Number(value)),
    confusion: (row, value) => (row.confusions ?? []).includes(Number(value)),
    change: (row, value) => row.before !== undefined && Math.sign(shift(row)) === Number(value),
  };
  const place = (row) => row.place ?? 0;
  const sure = (row) => row.confidence ?? 2;
  const orders = {
    worst: (a, b) => b.cer - a.cer,
    best: (a, b) => a.cer - b.cer || (b.length ?? 0) - (a.length ?? 0),
    unsure: (a, b) => sure(a) - sure(b),
    long: (a, b) => (b.length ?? 0) - (a.length ?? 0),
    worsened: (a, b) => shift(b) - shift(a),
    improved: (a, b) => shift(a) - shift(b),
    place: () => 0,
  };
  const apply = () => {
    const words = folded(search.value);
    const wanted = selects.filter((select) => select.value !== "").map(({ name, value, dataset }) =>
      dataset.dimension
        ? (row) => row.labels[dataset.dimension] === Number(value)
        : (row) => tests[name](row, value));
    found = rows.filter((row) => wanted.every((test) => test(row)) && (!words || haystack(row).includes(words)));
    const order = orders[form.elements.namedItem("sort").value] ?? orders.place;
    found.sort((a, b) => order(a, b) || place(a) - place(b));
    part = 0;
    current = -1;
    opened = false;
    show();
  };

  /* --- the address keeps what is chosen -------------------------------------------------------------------- */

  const remember = () => {
    const state = new URLSearchParams([...new FormData(form)].filter(([name, value]) => value && !(name === "sort" && value === "worst")));
    if (opened) state.set("page", found[current].id);
    else if (part) state.set("part", String(part + 1));
    const text = state.toString();
    if (text || location.hash.includes("=")) history.replaceState(null, "", `#${text}`);
  };
  const recall = () => {
    if (location.hash && !location.hash.includes("=") && list.children.length) return; // to a section of the report
    const state = new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
    form.reset();
    for (const [name, value] of state) {
      const field = form.elements.namedItem(name);
      if (field) field.value = value;
    }
    for (const select of form.querySelectorAll("select")) if (select.selectedIndex < 0) select.selectedIndex = 0;
    const wanted = state.get("page");
    const shownPart = Number(state.get("part") ?? 1) - 1;
    apply();
    const number = wanted === null ? -1 : found.findIndex((row) => row.id === wanted);
    if (number >= 0) go(number, true, false);
    else if (shownPart > 0) { part = shownPart; show(); }
  };

  /* --- events ------------------------------------------------------------------------------------------------ */

  const keys = {
    j: () => go(current + 1, opened),
    k: () => go(current - 1, opened),
    n: () => turn(1),
    p: () => turn(-1),
    "/": () => { search.focus(); search.select(); },
    "?": () => find("keys").showModal(),
    Escape: () => { if (opened) go(current, false); },
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || find("keys").open) return;
    let { key } = event;
    if (event.target === search && key === "Escape") {
      search.blur();
      event.preventDefault();
      return;
    }
    if (event.target === search && (key === "ArrowDown" || key === "Enter")) key = "j";
    else if (event.target.matches("input, select, textarea")) return;
    else if (list.contains(event.target)) key = { ArrowDown: "j", ArrowUp: "k" }[key] ?? key;
    if (!Object.hasOwn(keys, key)) return;
    event.preventDefault();
    keys[key]();
  });
  let waiting = 0;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(apply, 120);
  });
  for (const select of form.querySelectorAll("select")) select.addEventListener("change", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  find("all").addEventListener("click", () => {
    form.reset();
    apply();
  });
  window.addEventListener("hashchange", recall);
  find("previous").addEventListener("click", () => turn(-1));
  find("next").addEventListener("click", () => turn(1));
  find("help").addEventListener("click", () => find("keys").showModal());

  /* A row of a table of strata, kinds or confusions shows its pages. */
  for (const cell of document.querySelectorAll("[data-filter]")) {
    const button = element("button", { type: "button", className: "link", title: "show these pages" }, ...cell.childNodes);
    button.addEventListener("click", () => {
      form.reset();
      form.elements.namedItem(cell.dataset.filter).value = cell.dataset.value;
      apply();
      section.scrollIntoView();
    });
    cell.append(button);
  }

  const theme = find("theme");
  const dark = () => (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const label = () => { theme.textContent = dark() ? "Light" : "Dark"; };
  theme.addEventListener("click", () => {
    document.documentElement.dataset.theme = dark() ? "light" : "dark";
    label();
  });
  label();
  for (const shown of [section, theme, ...document.querySelectorAll(".scripted")]) shown.hidden = false;
  recall();
})();
