// A listener's way through the test: words, consent, trials, pause, end. Nothing is kept on the device.
import { ask, Refusal, token, voteId } from "./server.js";
import { choices, chosen, fill, focusOn, forgetPlayers, make, makePlayer, say, show, silence } from "./parts.js";

let words = {};
let session = {};
let redraw = () => {};

const localised = (texts) => texts[document.documentElement.lang] || texts.en || Object.values(texts)[0] || "";
const json = async (...request) => (await ask(...request)).json();

async function setLanguage(code) {
  words = await json("GET", `/api/words/${encodeURIComponent(code)}`, undefined, () => say(words.offline || "…"));
  document.documentElement.lang = code;
  const select = document.getElementById("language");
  select.replaceChildren(...Object.entries(words.languages).map(([value, text]) => make("option", { value, lang: value }, text)));
  select.value = code;
  document.getElementById("language-label").textContent = words.choose_language;
  document.getElementById("pause").textContent = words.pause;
  document.getElementById("skip").textContent = words.skip;
}

// The first of the reader's languages that the test has; the test's own first one otherwise.
async function firstLanguage(offered) {
  for (const wanted of [session.language, ...navigator.languages.map((name) => name.split("-")[0]), ...offered]) {
    if (offered.includes(wanted)) return setLanguage(wanted);
  }
  return setLanguage(offered[0]);
}

function title() {
  const text = session.title ? localised(session.title) : "";
  document.getElementById("title").textContent = text;
  document.title = text ? `${text} | talim` : "talim";
}

function welcome() {
  redraw = welcome;
  title();
  const agree = make("input", { type: "checkbox", id: "agree" });
  const groups = session.groups.map((name) => [name, words.groups[name] || name]);
  const familiarities = words.familiarities.map((text, place) => [String(place + 1), text]);
  show(
    make("h1", {}, words.welcome),
    make("p", {}, fill(words[`welcome_text_${session.kind}`], { count: session.trials })),
    make("p", {}, words.advice),
    make("h2", {}, words.about_you),
    choices(words.group, "", "group", groups, { list: true }),
    choices(words.familiarity, "", "familiarity", familiarities, { list: true }),
    make("h2", {}, words.consent),
    ...words.consent_text.map((text) => make("p", {}, text)),
    session.contact ? make("p", {}, fill(words.contact, { contact: session.contact })) : null,
    make("label", { class: "agree" }, agree, make("span", {}, words.agree)),
    make("div", { class: "actions" }, make("button", { type: "button", class: "main", onclick: begin }, words.begin)),
  );
}

async function begin() {
  for (const name of ["group", "familiarity"]) {
    if (chosen(name)) continue;
    say(fill(words.must_choose, { question: words[name] }));
    return focusOn(name);
  }
  const agree = document.getElementById("agree");
  if (!agree.checked) {
    say(words.must_agree);
    return agree.focus();
  }
  const language = document.documentElement.lang;
  const said = { consent: true, group: chosen("group"), familiarity: Number(chosen("familiarity")), language };
  try {
    await ask("POST", "/api/begin", said, () => say(words.offline));
  } catch (error) {
    if (error.reason !== "full") throw error;
    say("");
    return show(make("h1", {}, words.full));
  }
  say("");
  return nextTrial();
}

async function nextTrial() {
  forgetPlayers();
  const trial = await json("POST", "/api/trial", undefined, () => say(words.offline));
  const pause = document.getElementById("pause");
  pause.hidden = trial.done;
  if (trial.done) return ending();
  const load = async (name) => {
    const answer = await ask("GET", `/api/audio/${name}`, undefined, () => say(words.sound_failed));
    return URL.createObjectURL(await answer.blob());
  };
  trial.addresses = await Promise.all(trial.sounds.map(load));
  trial.referenceAddress = trial.reference ? await load(trial.reference) : null;
  trial.id = voteId();
  return showTrial(trial);
}

function head(trial) {
  const values = { number: trial.position + 1, count: trial.trials };
  const bar = make("progress", { max: trial.trials, value: trial.position, "aria-label": words.progress });
  const prompt = trial.prompt ? make("p", { class: "note" }, fill(words.prompt, { prompt: trial.prompt })) : null;
  return [make("h1", {}, fill(words.page_of, values)), bar, prompt];
}

function showTrial(trial) {
  title();
  redraw = () => { silence(); showTrial(trial); };
  const letters = trial.sounds.map((_, place) => String.fromCharCode(65 + place));
  const players = letters.map((name, place) => makePlayer(name, trial.addresses[place], words, trial.least_seconds));
  const form = session.kind === "pairwise" ? pairwise(players) : mushra(trial, players);
  const save = make("button", { type: "button", class: "main" }, words.next);
  save.addEventListener("click", () => submit(trial, players, form, save));
  show(...head(trial), ...form.parts, make("div", { class: "actions" }, save));
}

function box(player, kind, ...more) {
  player.box = make("div", { class: kind }, player.button, player.place, player.told, ...more);
  return player.box;
}

function wordsOf(aspect) {
  const known = words.aspects[aspect.name] || {};
  return {
    label: localised(aspect.label) || known.label,
    question: localised(aspect.question) || known.question,
    rating: localised(aspect.question) || known.rating,
  };
}

function pairwise(players) {
  const steps = words.steps.map((text, place) => [String(2 - place), text]);
  const questions = session.aspects.map((aspect) => {
    const { label, question } = wordsOf(aspect);
    const options = [...steps, ["null", words.cannot_say]];
    return choices(label, question, `aspect-${aspect.name}`, options, { apart: "null" });
  });
  const answers = () => {
    const found = {};
    for (const aspect of session.aspects) {
      const { name } = aspect;
      const value = chosen(`aspect-${name}`);
      if (value === undefined) {
        const question = wordsOf(aspect).label;
        return { missing: () => focusOn(`aspect-${name}`), message: fill(words.must_choose, { question }) };
      }
      found[name] = value === "null" ? null : Number(value);
    }
    return { found };
  };
  return { parts: [make("div", { class: "sounds" }, ...players.map((player) => box(player, "sound"))), ...questions], answers };
}

function mushra(trial, players) {
  const aspect = wordsOf(session.aspects.find(({ name }) => name === trial.aspect));
  const reference = makePlayer(words.reference, trial.referenceAddress, words, 0);
  const sliders = [];
  const rows = players.map((player, place) => {
    const output = make("output", {}, words.not_rated);
    const slider = make("input", { type: "range", min: 0, max: 100, step: 1, value: 50, "aria-label": fill(words.rate, { name: player.name }), "aria-valuetext": words.not_rated });
    const rated = () => {
      slider.dataset.rated = "yes";
      output.textContent = slider.value;
      slider.setAttribute("aria-valuetext", slider.value);
    };
    slider.addEventListener("input", rated);
    slider.addEventListener("keydown", (event) => { if (event.key === "Enter") rated(); });
    slider.id = `rate-${place}`;
    sliders.push(slider);
    const ends = make("div", { class: "ends", "aria-hidden": "true" }, ...words.scale.map((text) => make("span", {}, text)));
    const left = make("div", { class: "sound-part" }, player.button, player.place, player.told);
    player.box = make("div", { class: "rate", role: "group", "aria-label": player.name }, left, make("div", {}, slider, ends, output));
    return player.box;
  });
  const answers = () => {
    const open = sliders.findIndex((slider) => !slider.dataset.rated);
    if (open >= 0) return { missing: () => sliders[open].focus(), message: fill(words.must_rate, { name: players[open].name }) };
    return { found: Object.fromEntries(sliders.map((slider, place) => [String(place), Number(slider.value)])) };
  };
  const question = make("p", {}, make("strong", {}, `${aspect.label}: `), aspect.rating);
  const parts = [question, make("p", { class: "note" }, words.reference_note), box(reference, "sound"), make("div", { class: "rows" }, ...rows)];
  return { parts, answers };
}

async function submit(trial, players, form, save) {
  if (save.getAttribute("aria-disabled") === "true") return;
  const early = players.find((player) => !player.ready());
  if (early) {
    say(fill(words.not_heard, { name: early.name }));
    early.button.focus();
    return;
  }
  const { found, missing, message } = form.answers();
  if (!found) {
    say(message);
    missing();
    return;
  }
  save.setAttribute("aria-disabled", "true");
  silence();
  say(words.saving);
  const vote = { id: trial.id, position: trial.position, answers: found, heard_seconds: players.map((player) => player.heard()) };
  try {
    await ask("POST", "/api/votes", vote, () => say(words.retry));
    say(words.saved);
  } catch (error) {
    if (!(error instanceof Refusal) || error.status === 401) throw error;
    say(["answered", "not_current"].includes(error.reason) ? words.moved_on : words.retry);
  }
  await nextTrial();
}

function ending() {
  redraw = ending;
  title();
  show(make("h1", {}, words.done_title), make("p", {}, words.done_text), deletion());
}

function paused() {
  silence();
  redraw = paused;
  say("");
  const goOn = make("button", { type: "button", class: "main", onclick: () => nextTrial().catch(failed) }, words.go_on);
  show(
    make("h1", {}, words.pause_title), make("p", {}, words.pause_text), make("p", { class: "link" }, location.href),
    make("div", { class: "actions" }, goOn), deletion(),
  );
}

function deletion() {
  const actions = make("div", { class: "actions" });
  const offer = () => actions.replaceChildren(make("button", { type: "button", onclick: confirm }, words.delete));
  const confirm = () => {
    const yes = make("button", { type: "button", onclick: remove }, words.delete_yes);
    const no = make("button", { type: "button", onclick: () => { offer(); actions.firstChild.focus(); } }, words.keep);
    actions.replaceChildren(make("p", {}, words.delete_sure), yes, no);
    no.focus();
  };
  const remove = async () => {
    await ask("DELETE", "/api/session", undefined, () => say(words.offline));
    document.getElementById("pause").hidden = true;
    redraw = () => show(make("h1", {}, words.deleted));
    redraw();
  };
  offer();
  return actions;
}

function failed(error) {
  silence();
  redraw = () => failed(error);
  document.getElementById("pause").hidden = true;
  show(make("h1", {}, error.status === 401 ? words.no_link : `${words.offline} (${error.reason || error.message})`));
}

window.addEventListener("unhandledrejection", (event) => failed(event.reason));
window.addEventListener("hashchange", () => location.reload()); // another link in the same window
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address keeps the link's secret
  document.getElementById("content").focus();
});
document.getElementById("pause").addEventListener("click", paused);
document.getElementById("language").addEventListener("change", async (event) => {
  await setLanguage(event.target.value);
  redraw();
  document.getElementById("language").focus();
});

async function start() {
  try {
    const offered = await json("GET", "/api/languages", undefined, () => say("…"));
    await firstLanguage(offered);
    if (!token()) return failed({ status: 401 });
    session = await json("GET", "/api/session", undefined, () => say(words.offline));
    if (session.language && session.language !== document.documentElement.lang) await setLanguage(session.language);
    say("");
    return session.began ? await nextTrial() : welcome();
  } catch (error) {
    return failed(error);
  }
}
start();
