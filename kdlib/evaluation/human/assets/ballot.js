// The ballot. What it shows is in the page, what is answered stays in the browser until it is saved as a file.
(() => {
  "use strict";
  const { id: BALLOT, passes: PASSES } = JSON.parse(document.getElementById("ballot").textContent);
  const STORE = `kd-ballot-${BALLOT}`;
  const SCREENS = ["welcome", "intro", "pair", "end"];
  const KEYS = { ArrowLeft: "left", ArrowRight: "right", ArrowDown: "neither" };
  const PAUSE_MS = 200; // after a pair appears: a double click must not answer two
  const TOTAL = PASSES.reduce((sum, pass) => sum + pass.pairs.length, 0);
  const $ = (id) => document.getElementById(id);

  let votes = newVotes();
  let saved = 0; // answers in the file that was saved last
  let at = { pass: 0, place: 0 };
  let shownAt = 0;
  let kept = true;

  function newVotes() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    const rater = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    return { kind: "votes", ballot: BALLOT, rater, answers: Object.fromEntries(PASSES.map((p) => [p.question, {}])) };
  }

  // --- keeping ---

  function keep() {
    try {
      localStorage.setItem(STORE, JSON.stringify(votes));
    } catch {
      kept = false; // refused, or full
    }
  }

  function restore() {
    try {
      const found = localStorage.getItem(STORE);
      if (found && !complaint(JSON.parse(found))) votes = JSON.parse(found);
    } catch (error) {
      kept = error instanceof SyntaxError; // damaged: begun anew; else the browser refuses to keep anything
    }
  }

  // What is wrong with the content of a file, or "".
  function complaint(found) {
    if (found?.kind !== "votes" || typeof found.rater !== "string" || !found.answers) {
      return "That file holds no answers from this page. Choose one that you saved here.";
    }
    if (found.ballot !== BALLOT) return "That file belongs to another ballot. Open the page that it was saved from.";
    for (const { question, pairs } of PASSES) {
      const known = new Set(pairs.map((pair) => pair.id));
      const fits = ([id, answer]) => known.has(id) && ["left", "right", "neither"].includes(answer);
      if (!found.answers[question] || !Object.entries(found.answers[question]).every(fits)) {
        return "That file is damaged. Choose another one that you saved here.";
      }
    }
    return "";
  }

  async function load(file) {
    let found = null;
    try {
      found = JSON.parse(await file.text());
    } catch { /* `complaint` says so */ }
    const wrong = complaint(found);
    if (wrong) return say(wrong);
    if (count() && found.rater !== votes.rater) {
      return say("This page already holds answers of somebody else. Save them, then choose “Begin anew”.");
    }
    for (const { question } of PASSES) {
      votes.answers[question] = { ...found.answers[question], ...votes.answers[question] };
    }
    votes.rater = found.rater;
    saved = count();
    keep();
    goOn();
  }

  function save() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(votes, null, 1)], { type: "application/json" }));
    link.download = `votes-${votes.rater.slice(0, 8)}.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    saved = count();
    say(`Saved as ${link.download}, with ${saved} of ${TOTAL} answers.`);
  }

  function anew() {
    const many = count() > saved ? " Your answers are not saved, and will be lost." : "";
    if (!confirm(`Begin anew, as another person?${many}`)) return;
    votes = newVotes();
    saved = 0;
    keep();
    show("welcome");
  }

  // --- where we are ---

  const answersOf = (pass) => votes.answers[pass.question];
  const count = () => PASSES.reduce((sum, pass) => sum + Object.keys(answersOf(pass)).length, 0);

  function firstOpen() {
    for (const [index, pass] of PASSES.entries()) {
      const place = pass.pairs.findIndex((pair) => !(pair.id in answersOf(pass)));
      if (place >= 0) return { pass: index, place };
    }
    return null;
  }

  function goOn() {
    const open = firstOpen();
    const begins = !open || open.place === 0 || open.pass !== at.pass || $("welcome").hidden === false;
    at = open ?? at;
    show(!open ? "end" : begins ? "intro" : "pair");
  }

  function answer(value) {
    if (performance.now() - shownAt < PAUSE_MS) return;
    const pass = PASSES[at.pass];
    answersOf(pass)[pass.pairs[at.place].id] = value;
    keep();
    goOn();
  }

  function back() {
    if (at.place === 0) return;
    at = { ...at, place: at.place - 1 };
    show("pair");
  }

  // --- showing ---

  function say(text) {
    $("message").textContent = text;
  }

  function show(screen) {
    for (const name of SCREENS) $(name).hidden = name !== screen;
    $("footer").hidden = screen === "welcome" && count() === 0;
    say("");
    if (screen === "intro") showIntro();
    if (screen === "pair") showPair();
    $("progress").max = TOTAL;
    $("progress").value = count();
    $("place").textContent = `${count()} of ${TOTAL} answered`;
    $("kept").textContent = kept
      ? "Your answers are kept in this browser: you may close the page and go on later."
      : "This browser keeps nothing for this page. Save your answers before you close it; to go on later, load that file.";
    $(screen).querySelector("h1").focus({ preventScroll: true }); // off the button that was pressed
  }

  function showIntro() {
    const pass = PASSES[at.pass];
    const left = pass.pairs.length - Object.keys(answersOf(pass)).length;
    $("intro-place").textContent = `Question ${at.pass + 1} of ${PASSES.length}`;
    $("intro-title").textContent = pass.title;
    $("intro-text").textContent = `${left} pairs. ` + (pass.pairs.some((pair) => pair.text)
      ? "Above each pair stands a text. Judge only how well a picture shows what the text says."
      : "Judge only how good a picture looks, whatever it shows.");
  }

  function showPair() {
    const pass = PASSES[at.pass];
    const pair = pass.pairs[at.place];
    $("title").textContent = pass.title;
    $("text").textContent = pair.text && `“${pair.text}”`;
    $("text").hidden = !pair.text;
    for (const side of ["left", "right"]) {
      $(side).src = pair[side];
      $(side).alt = `the ${side} picture of pair ${at.place + 1}`;
    }
    for (const button of document.querySelectorAll("[data-answer]")) {
      button.setAttribute("aria-pressed", answersOf(pass)[pair.id] === button.dataset.answer);
    }
    $("back").disabled = at.place === 0;
    shownAt = performance.now();
  }

  // --- listening ---

  for (const button of document.querySelectorAll("[data-answer]")) {
    button.addEventListener("click", () => answer(button.dataset.answer));
  }
  for (const [id, act] of Object.entries({ begin: goOn, go: () => show("pair"), back, save, anew })) {
    $(id).addEventListener("click", act);
  }
  $("load").addEventListener("change", (event) => {
    if (event.target.files.length) load(event.target.files[0]);
    event.target.value = "";
  });
  document.addEventListener("keydown", (event) => {
    if (event.repeat || event.altKey || event.ctrlKey || event.metaKey || $("pair").hidden) return;
    if (event.key in KEYS) answer(KEYS[event.key]);
    else if (event.key === "ArrowUp") back();
    else return;
    event.preventDefault();
  });
  window.addEventListener("storage", (event) => { // the same ballot in another window
    if (event.key !== STORE) return;
    restore();
    if ($("welcome").hidden) goOn();
  });
  window.addEventListener("beforeunload", (event) => {
    if (!kept && count() > saved) event.preventDefault();
  });

  restore();
  keep(); // tells whether it can
  $("total").textContent = TOTAL;
  $("number-of-passes").textContent = PASSES.length;
  $("begin").textContent = count() ? "Go on" : "Begin";
  show("welcome");
})();
