// A listener's way through the test: words, consent, trials, pause, end. Nothing is kept on the device.
import { ask, Refusal, voteId } from "./server.js";
import { choices, chosen, fill, focusOn, forgetPlayers, make, makePlayer, say, show, silence } from "./parts.js";
import { ending, json, localised, page, start, title } from "./page.js";

function welcome() {
  page.redraw = welcome;
  title();
  const agree = make("input", { type: "checkbox", id: "agree" });
  const groups = page.session.groups.map((name) => [name, page.words.groups[name] || name]);
  const familiarities = page.words.familiarities.map((text, index) => [String(index + 1), text]);
  show(
    make("h1", {}, page.words.welcome),
    make("p", {}, fill(page.words[`welcome_text_${page.session.kind}`], welcomed())),
    make("p", {}, time()),
    make("p", {}, page.words.advice),
    make("h2", {}, page.words.about_you),
    choices(page.words.group, "", "group", groups, { list: true }),
    choices(page.words.familiarity, "", "familiarity", familiarities, { list: true }),
    make("h2", {}, page.words.consent),
    ...page.words.consent_text.map((text) => make("p", {}, text)),
    page.session.contact ? make("p", {}, fill(page.words.contact, { contact: page.session.contact })) : null,
    make("label", { class: "agree" }, agree, make("span", {}, page.words.agree)),
    make("div", { class: "actions" }, make("button", { type: "button", class: "main", onclick: begin }, page.words.begin)),
  );
}

function welcomed() {
  return { count: page.session.trials, checks: page.session.checks ? page.words.checks : "" };
}

function time() {
  const { trials, questions, minutes } = page.session;
  return fill(questions === 1 ? page.words.time_one : page.words.time, { count: trials, questions, minutes });
}

async function begin() {
  for (const name of ["group", "familiarity"]) {
    if (chosen(name)) continue;
    say(fill(page.words.must_choose, { question: page.words[name] }));
    return focusOn(name);
  }
  const agree = document.getElementById("agree");
  if (!agree.checked) {
    say(page.words.must_agree);
    return agree.focus();
  }
  const language = document.documentElement.lang;
  const consent = { consent: true, group: chosen("group"), familiarity: Number(chosen("familiarity")), language };
  try {
    await ask("POST", "/api/begin", consent, () => say(page.words.offline));
  } catch (error) {
    if (error.reason !== "full") throw error;
    say("");
    return show(make("h1", {}, page.words.full));
  }
  say("");
  return nextTrial();
}

async function nextTrial() {
  forgetPlayers();
  const trial = await json("POST", "/api/trial", undefined, () => say(page.words.offline));
  const pause = document.getElementById("pause");
  pause.hidden = trial.done;
  if (trial.done) return ending();
  const load = async (name) => {
    const answer = await ask("GET", `/api/audio/${name}`, undefined, () => say(page.words.sound_failed));
    return URL.createObjectURL(await answer.blob());
  };
  trial.addresses = await Promise.all(trial.stimuli.map(load));
  trial.referenceAddress = trial.reference ? await load(trial.reference) : null;
  trial.id = voteId();
  return showTrial(trial);
}

function head(trial) {
  const values = { number: trial.position + 1, count: trial.trials };
  const bar = make("progress", { max: trial.trials, value: trial.position, "aria-label": page.words.progress });
  const prompt = trial.prompt ? make("p", { class: "note" }, fill(page.words.prompt, { prompt: trial.prompt })) : null;
  return [make("h1", {}, fill(page.words.page_of, values)), bar, prompt];
}

function showTrial(trial) {
  title();
  page.redraw = () => { silence(); showTrial(trial); };
  const letters = trial.stimuli.map((_, index) => String.fromCharCode(65 + index));
  const players = letters.map((name, index) => makePlayer(name, trial.addresses[index], page.words, trial.minimum_seconds));
  const form = page.session.kind === "pairwise" ? pairwise(players) : mushra(trial, players);
  const save = make("button", { type: "button", class: "main" }, page.words.next);
  save.addEventListener("click", () => submit(trial, players, form, save));
  show(...head(trial), ...form.parts, make("div", { class: "actions" }, save));
}

function box(player, kind, ...more) {
  player.box = make("div", { class: kind }, player.button, player.position, player.state, ...more);
  return player.box;
}

function wordsOf(aspect) {
  const known = page.words.aspects[aspect.name] || {};
  return {
    label: localised(aspect.label) || known.label,
    question: localised(aspect.question) || known.question,
    rating: localised(aspect.question) || known.rating,
  };
}

function pairwise(players) {
  const steps = page.words.steps.map((text, index) => [String(2 - index), text]);
  const questions = page.session.aspects.map((aspect) => {
    const { label, question } = wordsOf(aspect);
    const options = [...steps, ["null", page.words.cannot_say]];
    return choices(label, question, `aspect-${aspect.name}`, options, { apart: "null" });
  });
  const answers = () => {
    const values = {};
    for (const aspect of page.session.aspects) {
      const { name } = aspect;
      const value = chosen(`aspect-${name}`);
      if (value === undefined) {
        const question = wordsOf(aspect).label;
        return { missing: () => focusOn(`aspect-${name}`), message: fill(page.words.must_choose, { question }) };
      }
      values[name] = value === "null" ? null : Number(value);
    }
    return { values };
  };
  return { parts: [make("div", { class: "sounds" }, ...players.map((player) => box(player, "sound"))), ...questions], answers };
}

function mushra(trial, players) {
  const aspect = wordsOf(page.session.aspects.find(({ name }) => name === trial.aspect));
  const reference = makePlayer(page.words.reference, trial.referenceAddress, page.words, 0);
  const sliders = [];
  const rows = players.map((player, index) => {
    const output = make("output", {}, page.words.not_rated);
    const slider = make("input", { type: "range", min: 0, max: 100, step: 1, value: 50, "aria-label": fill(page.words.rate, { name: player.name }), "aria-valuetext": page.words.not_rated });
    const rated = () => {
      slider.dataset.rated = "yes";
      output.textContent = slider.value;
      slider.setAttribute("aria-valuetext", slider.value);
    };
    slider.addEventListener("input", rated);
    slider.addEventListener("keydown", (event) => { if (event.key === "Enter") rated(); });
    slider.id = `rate-${index}`;
    sliders.push(slider);
    const ends = make("div", { class: "ends", "aria-hidden": "true" }, ...page.words.scale.map((text) => make("span", {}, text)));
    const left = make("div", { class: "sound-part" }, player.button, player.position, player.state);
    player.box = make("div", { class: "rate", role: "group", "aria-label": player.name }, left, make("div", {}, slider, ends, output));
    return player.box;
  });
  const answers = () => {
    const open = sliders.findIndex((slider) => !slider.dataset.rated);
    if (open >= 0) return { missing: () => sliders[open].focus(), message: fill(page.words.must_rate, { name: players[open].name }) };
    return { values: Object.fromEntries(sliders.map((slider, index) => [String(index), Number(slider.value)])) };
  };
  const question = make("p", {}, make("strong", {}, `${aspect.label}${page.words.colon}`), aspect.rating);
  const parts = [question, make("p", { class: "note" }, page.words.reference_note), box(reference, "sound"), make("div", { class: "rows" }, ...rows)];
  return { parts, answers };
}

async function submit(trial, players, form, save) {
  if (save.getAttribute("aria-disabled") === "true") return;
  const early = players.find((player) => !player.ready());
  if (early) {
    say(fill(page.words.not_listened, { name: early.name }));
    early.button.focus();
    return;
  }
  const { values, missing, message } = form.answers();
  if (!values) {
    say(message);
    missing();
    return;
  }
  save.setAttribute("aria-disabled", "true");
  silence();
  say(page.words.saving);
  const vote = { id: trial.id, position: trial.position, answers: values, listened_seconds: players.map((player) => player.listenedSeconds()) };
  try {
    await ask("POST", "/api/votes", vote, () => say(page.words.retry));
    say(page.words.saved);
  } catch (error) {
    if (!(error instanceof Refusal) || error.status === 401 || error.reason === "changed") throw error;
    say(["answered", "not_current"].includes(error.reason) ? page.words.moved_on : page.words.retry);
  }
  await nextTrial();
}

start(welcome, nextTrial);
