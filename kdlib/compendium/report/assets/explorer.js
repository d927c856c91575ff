// The explorer's filter, order and larger pictures. Without it, all prompts are listed as they were drawn.
(() => {
  const form = document.getElementById("kd-filter");
  const large = document.getElementById("kd-large");
  const samples = [...document.querySelectorAll(".kd-sample")];

  const compare = (key) => {
    const name = key.replace("-", "");
    const sign = key === name ? 1 : -1;
    return (a, b) => sign * (name === "prompt" ? a.dataset.prompt.localeCompare(b.dataset.prompt)
                                               : a.dataset[name] - b.dataset[name]);
  };

  const show = () => {
    const words = form.elements.prompt.value.toLowerCase().split(/\s+/);
    for (const sample of samples) {
      sample.hidden = !words.every((word) => sample.dataset.prompt.includes(word));
    }
    const shown = samples.filter((sample) => !sample.hidden).length;
    form.querySelector("[role=status]").textContent = `${shown} of ${samples.length} prompts`;
  };

  const sort = () => {
    document.querySelector(".kd-samples").append(...samples.sort(compare(form.elements.sort.value)));
  };

  const enlarge = (sample) => {
    large.firstElementChild.replaceChildren(sample.querySelector("h2").cloneNode(true),
                                            sample.querySelector(".kd-row").cloneNode(true));
    large.showModal();
    large.scrollTop = 0; // the focus is on Close, which stands at the end
  };

  for (const sample of samples) {
    const button = sample.querySelector(".kd-zoom");
    button.setAttribute("aria-label", `Larger: ${sample.querySelector("h2").textContent}`);
    button.hidden = false;
    button.addEventListener("click", () => enlarge(sample));
    sample.querySelector(".kd-row").addEventListener("click", () => enlarge(sample));
  }
  form.hidden = false;
  form.elements.prompt.addEventListener("input", show);
  form.elements.sort.addEventListener("change", sort);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => { show(); sort(); })); // after the browser has emptied it
  window.addEventListener("pageshow", () => { show(); sort(); }); // a browser may restore what was typed before
})();
