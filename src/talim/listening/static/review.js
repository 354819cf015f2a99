// A reviewer's way through a brief's candidates: words, consent, one decision after another, pause, end.
import { ask, Refusal, voteId } from "./server.js";
import { choices, chosen, fill, focusOn, forgetPlayers, make, makePlayer, say, show, silence } from "./parts.js";
import { ending, json, localised, page, start, title } from "./page.js";

function briefSummary() {
  const { words, session } = page;
  const { brief } = session;
  const lines = [
    localised(brief.prompt) ? fill(words.wanted_words, { words: localised(brief.prompt) }) : null,
    localised(brief.mood) ? fill(words.wanted_mood, { mood: localised(brief.mood) }) : null,
    fill(words.wanted_seconds, { seconds: brief.seconds }),
    brief.loop ? words.wanted_loop : null,
    brief.phrase ? words.wanted_phrase : null,
  ];
  return make("ul", {}, ...lines.filter(Boolean).map((text) => make("li", {}, text)));
}

function welcome() {
  page.redraw = welcome;
  title();
  const { words } = page;
  const agree = make("input", { type: "checkbox", id: "agree" });
  show(
    make("h1", {}, words.welcome),
    make("p", {}, fill(words.welcome_text, { count: page.session.candidates })),
    make("h2", {}, words.wanted), briefSummary(),
    make("p", {}, words.advice),
    make("h2", {}, words.consent),
    ...words.consent_text.map((text) => make("p", {}, text)),
    make("label", { class: "agree" }, agree, make("span", {}, words.agree)),
    make("div", { class: "actions" }, make("button", { type: "button", class: "main", onclick: begin }, words.begin)),
  );
}

async function begin() {
  const agree = document.getElementById("agree");
  if (!agree.checked) {
    say(page.words.must_agree);
    return agree.focus();
  }
  const consent = { consent: true, language: document.documentElement.lang };
  await ask("POST", "/api/begin", consent, () => say(page.words.offline));
  say("");
  return next();
}

async function next() {
  forgetPlayers();
  const candidate = await json("POST", "/api/candidate", undefined, () => say(page.words.offline));
  document.getElementById("pause").hidden = candidate.done;
  if (candidate.done) return ending();
  candidate.address = await soundAddress(candidate.audio);
  if (candidate.phrase) candidate.phrase.address = await soundAddress(candidate.phrase.audio);
  candidate.id = voteId();
  return showCandidate(candidate);
}

async function soundAddress(name) {
  const answer = await ask("GET", `/api/audio/${name}`, undefined, () => say(page.words.sound_failed));
  return URL.createObjectURL(await answer.blob());
}

// The phrase alone, and the candidate from where its new music begins, if the phrase comes first.
function phrasePlayers(candidate, player) {
  const { words } = page;
  if (!candidate.phrase) return null;
  const phrase = makePlayer(words.phrase, candidate.phrase.address, words, 0);
  phrase.box = make("div", { class: "sound" }, phrase.button, phrase.position, phrase.state);
  const start = candidate.phrase.kept_seconds;
  const jump = make("button", { type: "button", class: "plain" }, words.play_new);
  jump.addEventListener("click", () => {
    silence();
    player.audio.currentTime = start;
    player.audio.play();
  });
  return make("div", { class: "phrase" }, phrase.box, start > 0 ? jump : null);
}

function failedChecks(candidate) {
  const { words } = page;
  if (!candidate.failed.length) return null;
  const line = ({ name, measured, required, part }) => {
    const title = words.checks[name] || name;
    const values = { name: part ? fill(words.judged_part, { name: title, part: localised(part) }) : title };
    return make("li", {}, fill(words.failed_check, { ...values, measured: localised(measured), required: localised(required) }));
  };
  return make("div", { class: "failed" }, make("p", {}, words.failed), make("ul", {}, ...candidate.failed.map(line)));
}

function reasons() {
  const { words, session } = page;
  const box = make("div", { class: "choices list reasons" });
  for (const name of session.reasons) {
    if (name === "seam" && !session.brief.loop) continue; // where nothing is joined
    const own = session.reason_words[name];
    const text = own ? localised(own) : words.reason_words[name];
    const input = make("input", { type: "checkbox", name: "reason", value: name });
    box.append(make("label", { class: "choice" }, input, make("span", {}, text)));
  }
  return make("fieldset", {}, make("legend", {}, words.reasons, make("span", {}, words.reasons_note)), box);
}

function showCandidate(candidate) {
  title();
  const { words } = page;
  page.redraw = () => { silence(); showCandidate(candidate); };
  const player = makePlayer(words.candidate, candidate.address, words, candidate.minimum_seconds);
  player.box = make("div", { class: "sound" }, player.button, player.position, player.state);
  const values = { number: candidate.position + 1, count: candidate.candidates };
  const save = make("button", { type: "button", class: "main" }, words.next);
  save.addEventListener("click", () => submit(candidate, player, save));
  const note = make("textarea", { id: "note", maxlength: 500, rows: 3 });
  show(
    make("h1", {}, fill(words.page_of, values)),
    make("progress", { max: candidate.candidates, value: candidate.position, "aria-label": words.progress }),
    make("details", {}, make("summary", {}, words.wanted), briefSummary()),
    player.box, phrasePlayers(candidate, player), failedChecks(candidate),
    choices(words.verdict, "", "verdict", Object.entries(words.verdicts)),
    reasons(),
    make("label", { class: "note-field" }, make("span", {}, words.note), note),
    make("div", { class: "actions" }, save),
  );
}

function missing(player) {
  const { words } = page;
  if (!player.ready()) return [fill(words.not_listened, { name: player.name }), () => player.button.focus()];
  const verdict = chosen("verdict");
  if (!verdict) return [words.must_choose, () => focusOn("verdict")];
  const reason = document.querySelector('input[name="reason"]:checked') || document.getElementById("note").value.trim();
  if (verdict !== "accept" && !reason) return [words.must_reason, () => focusOn("reason")];
  return null;
}

async function submit(candidate, player, save) {
  const { words } = page;
  if (save.getAttribute("aria-disabled") === "true") return;
  const lack = missing(player);
  if (lack) {
    say(lack[0]);
    lack[1]();
    return;
  }
  save.setAttribute("aria-disabled", "true");
  silence();
  say(words.saving);
  const picked = [...document.querySelectorAll('input[name="reason"]:checked')].map(({ value }) => value);
  const note = document.getElementById("note").value.replace(/[\u0000-\u0009\u000b-\u001f]/g, " ");
  const review = { id: candidate.id, position: candidate.position, verdict: chosen("verdict"), reasons: picked, note, listened_seconds: player.listenedSeconds() };
  try {
    await ask("POST", "/api/reviews", review, () => say(words.retry));
    say(words.saved);
  } catch (error) {
    if (!(error instanceof Refusal) || error.status === 401 || error.reason === "changed") throw error;
    say(["answered", "not_current"].includes(error.reason) ? words.moved_on : words.retry);
  }
  await next();
}

start(welcome, next);
