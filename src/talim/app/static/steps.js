// The seven pages: each makes its elements from what the server read in the folder.
import { draw, field, jobForm, link, reason, send, tell, text, values } from "./app.js";
import { make, say } from "./parts.js";

const CHUNK = 3_500_000;
const h2 = (key) => make("h2", {}, text(key));
const p = (key, filled) => make("p", {}, text(key, filled));
const list = (items) => make("ul", {}, ...items.map((item) => make("li", {}, item)));
const page = (address, key) => (address ? make("p", {}, make("a", { href: address, target: "_blank", rel: "noopener" }, text(key))) : null);
const goTo = (key, name) => make("p", {}, make("a", { href: link(name) }, text(key)));
const command = (words) => make("p", { class: "command" }, make("code", {}, words));
const player = (address, label) => make("audio", { controls: true, preload: "none", src: address, "aria-label": label });

// One file after the other, in chunks; what a broken connection left is gone on with.
async function upload(kind, file, told) {
  const address = `/api/files/${kind}/${encodeURIComponent(file.name)}?total=${file.size}`;
  for (let have = 0, first = true; first || have < file.size; first = false) {
    const chunk = file.slice(have, have + CHUNK);
    have = (await send("PUT", `${address}&offset=${have}`, chunk)).have;
    told(text("uploading", { name: file.name, percent: Math.floor((100 * have) / file.size) }));
  }
}

async function uploadAll(kind, files, box) {
  const failed = [];
  for (const file of files) {
    if (file.name.startsWith(".")) continue;
    try {
      await upload(kind, file, say);
    } catch (error) {
      failed.push(text("not_uploaded", { name: file.name, reason: reason(error) }));
    }
  }
  await draw();
  say("");
  if (failed.length) document.getElementById(box)?.replaceChildren(list(failed));
}

function picker(kind, key, box, attributes = {}) {
  const input = make("input", { type: "file", multiple: true, ...attributes, onchange: () => uploadAll(kind, [...input.files], box) });
  return make("label", { class: "picker" }, make("span", {}, text(key)), input);
}

function dropZone() {
  const zone = make("div", { class: "drop" }, make("p", {}, text("drop")),
    picker("recordings", "choose_files", "refused", { accept: "audio/*,video/*,.flac,.opus,.csv" }),
    picker("recordings", "choose_folder", "refused", { webkitdirectory: true }), make("div", { id: "refused" }));
  zone.addEventListener("dragover", (event) => { event.preventDefault(); zone.classList.add("over"); });
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    uploadAll("recordings", [...event.dataTransfer.files], "refused");
  });
  return zone;
}

const column = (name) => (text(`column_${name}`) === `column_${name}` ? name : text(`column_${name}`));

function recording(row, columns, changed) {
  const fields = columns.map((name) => {
    const label = field(name, column(name), { value: row.cells[name] ?? "", "data-column": name });
    const input = label.lastChild;
    const found = row.suggested[name];
    if (!found || found.values.includes(input.value)) return label;
    const several = found.values.length > 1;
    const box = make("div", {}, label, several ? make("p", { class: "note" }, text("one_of", found)) : "");
    for (const value of found.values) {
      const key = several || found.percent === null ? "take" : "take_percent";
      const take = () => { input.value = value; box.replaceChildren(label); changed(); input.focus(); };
      box.append(make("button", { type: "button", class: "suggested", onclick: take }, `${text("suggestion")} · ${text(key, { ...found, value })}`));
    }
    return box;
  });
  const aside = make("button", { type: "button", class: "small", "aria-label": text("set_aside_label", { name: row.file }),
    onclick: () => send("DELETE", `/api/files/recordings/${encodeURIComponent(row.file)}`).then(draw, tell) }, text("set_aside"));
  return make("fieldset", { class: "recording", "data-file": row.file }, make("legend", {}, row.file), player(row.audio, row.file), make("div", { class: "fields" }, ...fields), aside);
}

// Cells that are not saved yet, by file: they stay when the page is drawn anew.
const edits = new Map();

function labels(state) {
  const note = make("p", { class: "note", hidden: edits.size === 0 }, text("unsaved"));
  const cells = (box) => Object.fromEntries([...box.querySelectorAll("input[data-column]")].map((input) => [input.dataset.column, input.value]));
  const changed = () => {
    note.hidden = false;
    for (const box of rows) edits.set(box.dataset.file, cells(box));
  };
  const rows = state.rows.map((row) => recording({ ...row, cells: { ...row.cells, ...edits.get(row.file) } }, state.columns, changed));
  const own = () => {
    for (const box of rows) {
      const input = box.querySelector('input[data-column="licence"]');
      if (!input.value) input.value = text("own_recording");
    }
    changed();
  };
  const form = make("form", {}, ...rows, note, make("div", { class: "actions" },
    make("button", { type: "button", onclick: own }, text("all_own")), make("button", { type: "submit", class: "main" }, text("save"))));
  form.addEventListener("input", changed);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await send("PUT", "/api/table", { rows: Object.fromEntries(rows.map((box) => [box.dataset.file, cells(box)])) });
      edits.clear();
      await draw();
      say(text("saved"));
    } catch (error) {
      tell(error);
    }
  });
  return form;
}

function corpus(found) {
  const reasons = (rows) => make("ul", {}, ...rows.map(({ file, reason, lang }) => make("li", { lang: lang ?? "en" }, file ? `${file}: ${reason}` : reason)));
  const leaks = Object.entries(found.leaks).map(([what, percent]) => text("leak", { percent, what: text(`leak_${what}`) }));
  return [
    h2("corpus"), found.changed ? p("corpus_changed") : null, p("corpus_amount", found), p("licences", { list: found.licences.join(", ") }),
    found.without_caption ? p("without_caption", { count: found.without_caption }) : null,
    make("h3", {}, text("split")), list(found.split.map((side) => text("split_amount", { ...side, side: text(`${side.side}_side`) }))),
    make("p", { lang: "en", class: "note" }, found.explanation),
    make("h3", {}, text("leaks")), leaks.length ? list(leaks) : p("no_leaks"),
    make("h3", {}, text("skipped")), found.skipped.length ? reasons(found.skipped) : p("none_skipped"),
    ...(found.notes.length ? [make("h3", {}, text("notes")), reasons(found.notes)] : []), page(found.page, "corpus_page"),
  ];
}

function recordings(state) {
  const shown = [dropZone(), state.fault ? make("p", { lang: "en" }, state.fault) : null];
  if (!state.rows.length) return shown;
  shown.push(h2("suggest"), p("suggest_intro"), jobForm("suggest", text("suggest"), []), h2("labels"), p("labels_intro"), labels(state));
  shown.push(h2("prepare"), p("prepare_intro"), jobForm("prepare", text("prepare"), [field("caption", text("caption"))]));
  return state.corpus ? [...shown, ...corpus(state.corpus)] : shown;
}

const lengths = (state) => state.lengths.map((name) => [name, text(`length_${name}`)]);
const steps = (chosen) => field("steps", text("number_of_steps"), { type: "number", min: 1, value: chosen.steps ?? "" });

function designs(planned, chosen) {
  const choose = async (design) => {
    await send("PUT", "/api/choices", { design }).catch(tell);
    await draw();
    document.querySelector("input[name=design]:checked")?.focus();
  };
  const columns = ["parameters", "memory", "time", "energy", "money", "fits"];
  const cell = (row, name) => ({ parameters: `${row.parameters} (${row.share})`, fits: text(row.fits ? "yes" : "no") })[name] ?? (row[name] || text("not_known"));
  const rows = planned.rows.map((row) => {
    const radio = make("input", { type: "radio", name: "design", value: row.design, checked: row.design === chosen, "aria-label": `${text("choose")}: ${row.design}`, onchange: () => choose(row.design) });
    return make("tr", { class: row.design === chosen ? "chosen" : null }, make("td", {}, row.asked ? make("label", {}, radio) : ""),
      make("th", { scope: "row" }, row.asked ? row.design : text("design_reference", row)), ...columns.map((name) => make("td", {}, cell(row, name))));
  });
  const head = make("tr", {}, make("td", {}), ...["design", ...columns].map((name) => make("th", { scope: "col" }, text(name))));
  const table = make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows));
  const notes = [planned.hardware ? text("plan_published", planned.rates) : text("plan_measured"), text("plan_included"), planned.energy_known ? "" : text("energy_unknown")];
  return [p("plan_result", { ...planned, hardware: planned.hardware || text("this_machine") }), make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": text("plan") }, table),
    ...notes.filter(Boolean).map((note) => make("p", { class: "note" }, note)), chosen ? p("chosen", { design: chosen }) : null];
}

function plan(state) {
  const { chosen } = state;
  const base = (found) => text(found.download === "0 bytes" ? "base_shipped" : "base_option", found);
  const remember = (asked) => send("PUT", "/api/choices", { steps: null, gpu: null, price_per_hour: null, ...asked });
  const form = jobForm("plan", text("plan_button"), [
    field("base", text("base"), { value: chosen.base }, state.bases.map((found) => [found.name, base(found)])),
    field("length", text("length"), { value: chosen.length }, lengths(state)), steps(chosen),
    field("gpu", text("gpu"), { value: chosen.gpu }, [["", text("this_machine")], ...state.gpus.map((name) => [name, name])]),
    field("price_per_hour", text("price"), { type: "number", min: 0.01, step: "any", value: chosen.price_per_hour ?? "" }),
  ], { before: remember });
  return [p("base_note"), form, ...(state.plan ? designs(state.plan, chosen.design) : [])];
}

// Curves of the loss in the page's colours; the sentence below says the same.
function curve(run) {
  const narrow = window.matchMedia("(max-width: 38rem)").matches;
  const [width, height, left, bottom, right] = [narrow ? 350 : 640, 260, 46, 24, 74];
  const svg = (tag, attributes, ...children) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };
  const known = [...run.train, ...run.validation];
  if (!known.length) return [p("curve_none")];
  const losses = [...known.map((point) => point[1]), ...run.references.map((each) => each.loss)];
  const [low, high] = [Math.min(...losses), Math.max(...losses)];
  const x = (step) => left + ((width - left - right) * step) / Math.max(1, run.asked);
  const y = (loss) => 10 + ((height - bottom - 20) * (high - loss)) / (high - low || 1);
  const dot = ([step, loss], more = {}) => svg("circle", { cx: x(step), cy: y(loss), r: 3, ...more });
  const line = (points, name) => points.length === 1 ? dot(points[0], { class: name }) // a line needs two points
    : svg("polyline", { class: name, points: points.map(([step, loss]) => `${x(step).toFixed(1)},${y(loss).toFixed(1)}`).join(" ") });
  const said = (loss) => loss.toFixed(3);
  const label = (at, words, end) => svg("text", { x: at, y: end, "text-anchor": at < left ? "end" : "start" }, words);
  const drawing = svg("svg", { class: "curve", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": text("curve", run) });
  drawing.append(svg("line", { class: "axis", x1: left, x2: width - right, y1: height - bottom, y2: height - bottom }),
    label(left - 6, said(high), y(high) + 4), label(left - 6, said(low), y(low) + 4), label(left, "0", height - 8), label(width - right - 20, String(run.asked), height - 8));
  run.references.forEach((each) => drawing.append(svg("line", { class: "reference", x1: left, x2: width - right, y1: y(each.loss), y2: y(each.loss) })));
  const ends = run.references.map((each) => [y(each.loss), said(each.loss)]); // the sentence below names them
  if (run.train.length) {
    drawing.append(line(run.train, "train"));
    ends.push([y(run.train.at(-1)[1]), text("curve_train")]);
  }
  if (run.validation.length) {
    drawing.append(line(run.validation, "validation"), ...run.validation.map((point) => dot(point)));
    ends.push([y(run.validation.at(-1)[1]), text("curve_validation")]);
  }
  let above = -20;
  for (const [at, words] of ends.sort((one, other) => one[0] - other[0])) {
    above = Math.max(at, above + 13);
    drawing.append(label(width - right + 8, words, above + 4));
  }
  const references = new Intl.ListFormat(document.documentElement.lang).format(run.references.map((each) => `${each.name} ${said(each.loss)}`));
  const sentence = run.validation.length ? p("curve_text", { first: said(run.validation[0][1]), last: said(run.validation.at(-1)[1]) }) : null;
  return [make("p", { class: "note" }, text("curve", run)), drawing, sentence, references ? p("curve_references", { references }) : null];
}

function progress(run) {
  if (!run) return [];
  const shown = run.finished ? text("trained", run) : [text("progress", run), run.left ? text("time_left", run) : "", text("time_taken", run)].filter(Boolean).join(" · ");
  return [make("h2", {}, `${run.name}: ${run.design}, ${run.base}`),
    make("progress", { class: "steps", max: run.asked || 1, value: run.finished ? run.asked || 1 : run.done, "aria-label": text("progress", run) }), make("p", {}, shown), ...curve(run)];
}

function whichRun(state) {
  if (state.runs.length < 2) return null;
  const chosen = field("run", text("which_run"), { value: state.run?.name }, state.runs.map((name) => [name, name]));
  chosen.addEventListener("change", () => send("PUT", "/api/choices", { run: chosen.lastChild.value }).then(draw, tell));
  return chosen;
}

function train(state) {
  if (!state.ready) return [goTo("needs_corpus", "recordings")];
  const { chosen, run } = state;
  const shown = [whichRun(state), make("div", { id: "live" }, ...progress(run))];
  if (run && !run.finished) shown.push(p("resume_intro"), jobForm("train", text("resume"), [], { fixed: { resume: true } }));
  const form = jobForm("train", text("train_button"), [
    field("design", text("design"), { value: chosen.design, required: true }), field("length", text("length"), { value: chosen.length }, lengths(state)),
    steps(chosen), field("seed", text("seed"), { type: "number", min: 0, value: 0 }),
  ], { fixed: { base: chosen.base } });
  return run ? [...shown, make("details", {}, make("summary", {}, text("train_new")), form)] : [...shown, form];
}

function example(group, index, blind) {
  const roles = Object.keys(group.sounds);
  if (blind) roles.sort(() => Math.random() - 0.5);
  const cards = roles.map((role, place) => {
    const name = blind ? "ABC"[place] : text(role);
    const shown = make("p", {}, make("strong", {}, name));
    const reveal = make("button", { type: "button", class: "small", onclick: () => { shown.append(`: ${text(role)}`); reveal.remove(); } }, text("reveal"));
    return make("div", { class: "card" }, shown, player(group.sounds[role], text("sound_label", { name, number: index + 1 })), blind ? reveal : null);
  });
  return [make("h2", {}, text("example", { number: index + 1 })), make("p", {}, group.prompt || text("no_prompt")), make("div", { class: "cards" }, ...cards)];
}

function listen(state) {
  if (!state.run) return [goTo("needs_run", "train")];
  const box = make("div", {});
  const hide = make("input", { type: "checkbox", onchange: () => fillIn() });
  const fillIn = () => box.replaceChildren(...state.groups.flatMap((group, index) => example(group, index, hide.checked)));
  fillIn();
  const shown = state.groups.length ? [make("label", { class: "agree" }, hide, text("blind")), box] : [];
  const said = state.sentences.length ? [h2("scores"), ...state.sentences.map((sentence) => make("p", {}, sentence))] : [];
  const form = jobForm("evaluate", text("evaluate"), [
    field("num_prompts", text("num_prompts"), { type: "number", min: 1, max: 50, value: 3 }), field("seconds", text("seconds"), { type: "number", min: 1, max: 60, value: 10 }),
  ]);
  return [...shown, ...said, ...blindTest(state.test), h2("evaluate"), form];
}

// The same sounds with the names hidden, for anybody, each at an address of their own; and what came of it.
function blindTest(found) {
  if (!found) return [];
  const open = found.links.map((href, index) => make("a", { class: "listener", href, target: "_blank", rel: "noopener" }, text("test_link", { number: index + 1 })));
  const forms = [jobForm("listening-test", text("test_button"), [field("listeners", text("listeners"), { type: "number", min: 1, max: 100, value: 1 })]),
    jobForm("ratings", text("test_rate"), [])];
  return [h2("test"), p("test_intro"), ...found.sentences.map((said) => make("p", { lang: said.lang }, said.text)), page(found.page, "test_page"),
    ...(open.length ? [p("test_open"), list(open)] : forms)];
}

// The piece that is being written: its player stays while the page is drawn anew and when the command is stopped, and
// hands over to that of the finished file.
let stream = null;

function follow(found, box) {
  if (found?.running && found.audio !== stream?.audio) stream = null;
  if (found?.audio && !stream) {
    const made = { audio: found.audio, name: found.name, said: make("p", {}), sound: player(found.audio, found.name), fault: false };
    made.card = make("div", { class: "card" }, make("p", {}, make("strong", {}, found.name)), made.sound, made.said);
    made.sound.preload = "auto"; // a command that is stopped takes its file away
    made.sound.addEventListener("error", () => {
      made.fault = true;
      made.said.textContent = text("no_play");
    });
    stream = made;
    if (found.running) say(text("can_play", found));
  }
  const goesOn = found?.progress ? text("making", found.progress) : text(stream ? "running" : "making_soon");
  const words = stream?.fault ? text("no_play") : found?.running ? goesOn : text("unfinished");
  if (!stream) box.replaceChildren(...(found ? [make("p", {}, words)] : []));
  else if (box.firstChild !== stream.card) box.replaceChildren(stream.card);
  if (stream && stream.said.textContent !== words) stream.said.textContent = words;
}

// The player of a finished piece, which goes on where that of the unfinished one is.
function finishedPlayer(found) {
  const sound = player(found.audio, found.name);
  if (stream?.name !== found.name) return sound;
  const before = stream.sound;
  stream = null;
  sound.preload = "auto";
  sound.currentTime = before.currentTime;
  if (!before.paused && !before.ended) sound.play().catch(() => {});
  if (document.activeElement === before) requestAnimationFrame(() => sound.focus());
  before.pause();
  return sound;
}

// Cards of the pieces; those that are on the page stay, so that what plays there plays on.
function cards(state) {
  const key = (found) => `${document.documentElement.lang} ${found.name}`;
  const known = new Map([...document.querySelectorAll("#pieces > .card")].map((card) => [card.dataset.key, card]));
  return state.pieces.length ? state.pieces.map((found) => known.get(key(found)) ?? piece(found, key(found))) : [p("no_pieces")];
}

function piece(found, key) {
  const tags = Object.entries(found.tags).flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]);
  return make("div", { class: "card", "data-key": key }, make("p", {}, make("strong", {}, found.name)), found.tags.prompt ? make("p", {}, found.tags.prompt) : null, finishedPlayer(found),
    make("a", { href: `${found.audio}?save=true`, download: found.name.split("/").at(-1) }, text("download", { name: found.name })),
    make("details", {}, make("summary", {}, text("tags")), make("dl", { lang: "en" }, ...tags)));
}

function create(state) {
  if (!state.run) return [goTo("needs_run", "train")];
  const whole = (name, label, value, more) => field(name, text(label), { type: "number", min: 0, value, ...more });
  const form = jobForm("make", text("make_button"), [
    field("prompt", text("prompt"), { value: state.prompt, maxlength: 500 }),
    field("phrase", text("phrase"), { value: "" }, [["", text("no_phrase")], ...state.phrases.map((name) => [name, name])]),
    whole("strength", "strength", 1, { max: 1.5, step: 0.1 }), whole("seconds", "seconds", 10, { min: 1, max: 600 }), whole("seed", "seed", 0), whole("count", "count", 1, { min: 1, max: 20 }),
  ]);
  const [pieces, live] = [make("div", { id: "pieces", class: "cards" }, ...cards(state)), make("div", { id: "live", class: "cards" })];
  follow(state.under_way, live);
  return [form, picker("phrases", "add_phrase", "refused", { accept: "audio/*" }), make("div", { id: "refused" }), h2("pieces"), pieces, live];
}

function decide(state) {
  if (!state.run) return [goTo("needs_run", "train")];
  const price = make("form", {}, make("div", { class: "fields" }, field("price_per_hour", text("price"), { type: "number", min: 0.01, step: "any", value: state.price })),
    make("div", { class: "actions" }, make("button", { type: "submit" }, text("remember_price"))));
  price.addEventListener("submit", (event) => {
    event.preventDefault();
    send("PUT", "/api/choices", { price_per_hour: null, ...values(price) }).then(draw, tell);
  });
  return [h2("cost_quality_use"), make("ol", {}, ...state.points.map((point) => make("li", { class: "said" }, point))), price,
    h2("what_next"), p(`next_${state.verdict}`), state.verdict === "better" ? command(`talim listen ${state.run} --invites 12`) : null,
    ...(state.miniature ? [p("next_miniature"), command("talim poc recordings --base facebook/musicgen-small --hours 1 --out poc")] : []),
    h2("report"), page(state.page, "report_page"), jobForm("report", text("report"), []), ...brief(state)];
}

// A task of one's own: candidates, their review at an address of its own, and what an accepted minute costs.
function brief(state) {
  const found = state.brief;
  const form = jobForm("brief", text("brief_button"), [
    field("title", text("brief_title"), { maxlength: 100 }), field("prompt", text("prompt"), { maxlength: 500, required: true }),
    field("seconds", text("seconds"), { type: "number", min: 1, max: 600, value: 10 }), field("candidates", text("candidates"), { type: "number", min: 1, max: 100, value: 4 }),
    field("person_hour", text("person_hour"), { type: "number", min: 0.01, step: "any" }),
  ]);
  if (!found) return [h2("brief"), p("brief_intro"), form];
  const latest = found.review ? [make("p", {}, make("a", { id: "review", href: found.review, target: "_blank", rel: "noopener" }, text("review_link")))]
    : [jobForm("brief", text("review_again"), [], { fixed: { resume: true } }), jobForm("brief-report", text("brief_report"), [])];
  return [h2("brief"), p("brief_intro"), make("h3", {}, found.name), ...found.sentences.map((said) => make("p", { lang: said.lang }, said.text)), page(found.page, "brief_page"),
    ...latest, make("details", {}, make("summary", {}, text("brief_new")), form)];
}

function share(state) {
  if (!state.run) return [goTo("needs_run", "train")];
  const form = jobForm("share", text("share_button"), [field("to", text("export_to"), { value: "folder" }, ["folder", "transformers", "onnx", "space"].map((name) => [name, text(`export_${name}`)]))]);
  const shared = state.shared.flatMap((folder) => [make("h3", {}, folder.name),
    list(folder.files.map((file) => make("a", { href: `${file.address}?save=true`, download: file.name.split("/").at(-1) }, file.name)))]);
  return [form, ...(shared.length ? [h2("shared"), ...shared] : []), h2("card"), state.card ? make("pre", { lang: "en", tabindex: 0 }, state.card) : p("no_card"),
    make("h2", {}, "Hugging Face Hub"), p("hub"), command(`talim export ${state.run} --to hub --repo OWNER/NAME --dry-run`)];
}

export const pages = { recordings, plan, train, listen, make: create, decide, share };
// What is drawn anew while a command of the page runs.
export const live = {
  train: (state) => document.getElementById("live")?.replaceChildren(...progress(state.run).filter(Boolean)),
  make: (state) => {
    const pieces = document.getElementById("pieces");
    if (pieces && pieces.querySelectorAll(".card").length !== state.pieces.length) pieces.replaceChildren(...cards(state));
    if (pieces) follow(state.under_way, document.getElementById("live"));
  },
  listen: (state) => (state.test?.links.length && !document.querySelector(".listener") ? draw() : null),
  decide: (state) => (state.brief?.review && !document.getElementById("review") ? draw() : null),
};
