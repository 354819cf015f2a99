// Optional: what is told in the reader's language is opened, where that is not the language of the page.
const told = (language) => document.querySelectorAll(`details.translated[lang="${language}"]`);
const reads = navigator.languages.map((name) => name.split("-")[0]);
const first = reads.find((language) => language === document.documentElement.lang || told(language).length);
for (const block of told(first)) block.open = true;

// Optional: headings and the heads of tables, in English, are repeated in the reader's language.
const heads = document.querySelector(`script.heads[lang="${first}"]`);
if (heads) {
  const known = JSON.parse(heads.textContent);
  for (const head of document.querySelectorAll("main h2, main th")) {
    const text = known[head.firstChild?.textContent.trim()];
    if (!text || head.closest(".translated")) continue;
    const beside = document.createElement("small");
    beside.lang = first;
    beside.textContent = text;
    head.append(" ", beside);
  }
}

// Optional: a table that is wider than the page says so.
const sayWhatScrolls = () => {
  for (const box of document.querySelectorAll(".scroll")) box.classList.toggle("more", box.scrollWidth > box.clientWidth + 1);
};
sayWhatScrolls();
addEventListener("resize", sayWhatScrolls);
addEventListener("toggle", sayWhatScrolls, true); // a table in a section that is opened

// Optional: playing one audio element stops the others, and a line shows the position on the spectrogram.
document.addEventListener("play", (event) => {
  for (const other of document.querySelectorAll("audio")) if (other !== event.target) other.pause();
}, true);

for (const card of document.querySelectorAll(".card")) {
  const audio = card.querySelector("audio");
  const drawing = card.querySelector(".spectrogram");
  if (!audio || !drawing) continue;
  const left = Number(drawing.dataset.left);
  const seconds = Number(drawing.dataset.seconds);
  const head = drawing.querySelector(".playhead");
  const width = drawing.viewBox.baseVal.width;
  const follow = () => {
    const x = width * (left + (1 - left) * Math.min(audio.currentTime / seconds, 1));
    head.setAttribute("x1", x);
    head.setAttribute("x2", x);
    if (!audio.paused) requestAnimationFrame(follow);
  };
  audio.addEventListener("play", () => { drawing.classList.add("playing"); follow(); });
  audio.addEventListener("seeked", follow);
  drawing.addEventListener("click", (event) => {
    const box = drawing.getBoundingClientRect();
    const fraction = ((event.clientX - box.left) / box.width - left) / (1 - left);
    audio.currentTime = Math.max(0, fraction) * seconds;
    audio.play();
  });
}
