// What the pages of listeners, reviewers and organiser share: words and language; of the first two also title, pause,
// deletion, failures.
import { ask, token } from "./server.js";
import { fill, make, say, show, silence } from "./parts.js";

export const json = async (...request) => (await ask(...request)).json();
export const localised = (texts) => texts[document.documentElement.lang] || texts.en || Object.values(texts)[0] || "";

// `words` and `session` are filled by start; `redraw` draws the present view again, in another language.
export const page = { words: {}, session: {}, redraw: () => {} };

async function setLanguage(code) {
  const words = await json("GET", `/api/words/${encodeURIComponent(code)}`, undefined, () => say(page.words.offline || "…"));
  page.words = words;
  document.documentElement.lang = code;
  const select = document.getElementById("language");
  select.replaceChildren(...Object.entries(words.languages).map(([value, text]) => make("option", { value, lang: value }, text)));
  select.value = code;
  for (const element of document.querySelectorAll("[data-word]")) {
    element.textContent = element.dataset.word.split(".").reduce((found, key) => found[key], words);
  }
}

// The first of the reader's languages that there is; the first one offered otherwise.
export async function firstLanguage() {
  const offered = await json("GET", "/api/languages", undefined, () => say("…"));
  for (const wanted of [...navigator.languages.map((name) => name.split("-")[0]), ...offered]) {
    if (offered.includes(wanted)) return setLanguage(wanted);
  }
  return setLanguage(offered[0]);
}

// The reader's choice of another language draws the present view again.
export function chooseLanguage() {
  document.getElementById("language").addEventListener("change", async (event) => {
    await setLanguage(event.target.value);
    page.redraw();
    document.getElementById("language").focus();
  });
}

export function title() {
  const text = page.session.title ? localised(page.session.title) : "";
  document.getElementById("title").textContent = text;
  document.title = text ? `${text} | talim` : "talim";
}

export function ending() {
  page.redraw = ending;
  title();
  show(make("h1", {}, page.words.done_title), make("p", {}, page.words.done_text), deletion());
}

function paused(goOn) {
  silence();
  page.redraw = () => paused(goOn);
  say("");
  document.getElementById("pause").hidden = true; // the page that goes on shows it again
  const button = make("button", { type: "button", class: "main", onclick: () => goOn().catch(failed) }, page.words.go_on);
  show(
    make("h1", {}, page.words.pause_title), make("p", {}, page.words.pause_text), make("p", { class: "link" }, location.href),
    make("div", { class: "actions" }, button), deletion(),
  );
}

function deletion() {
  const actions = make("div", { class: "actions" });
  const { words } = page;
  const offer = () => actions.replaceChildren(make("button", { type: "button", onclick: confirm }, words.delete));
  const confirm = () => {
    const yes = make("button", { type: "button", onclick: remove }, words.delete_yes);
    const no = make("button", { type: "button", onclick: () => { offer(); actions.firstChild.focus(); } }, words.keep);
    actions.replaceChildren(make("p", {}, words.delete_sure), yes, no);
    no.focus();
  };
  const remove = async () => {
    const { deleted } = await json("DELETE", "/api/session", undefined, () => say(page.words.offline));
    document.getElementById("pause").hidden = true;
    page.redraw = () => show(make("h1", {}, deleted ? page.words.deleted : page.words.delete_pending));
    page.redraw();
  };
  offer();
  return actions;
}

export function failed(error) {
  silence();
  page.redraw = () => failed(error);
  document.getElementById("pause").hidden = true;
  const known = error.status === 401 ? page.words.no_link : { changed: page.words.changed }[error.reason];
  show(make("h1", {}, known || fill(page.words.broken, { reason: error.reason || error.message })));
}

// Words, session, then `welcome` or, for whoever had begun, `goOn`.
export async function start(welcome, goOn) {
  window.addEventListener("unhandledrejection", (event) => failed(event.reason));
  window.addEventListener("hashchange", () => location.reload()); // another link in the same window
  document.getElementById("skip").addEventListener("click", (event) => {
    event.preventDefault(); // the address keeps the link's secret
    document.getElementById("content").focus();
  });
  document.getElementById("pause").addEventListener("click", () => paused(goOn));
  chooseLanguage();
  try {
    await firstLanguage();
    if (!token()) return failed({ status: 401 });
    page.session = await json("GET", "/api/session", undefined, () => say(page.words.offline));
    const { language } = page.session;
    if (language && language !== document.documentElement.lang) await setLanguage(language);
    say("");
    return page.session.began ? await goOn() : welcome();
  } catch (error) {
    return failed(error);
  }
}
