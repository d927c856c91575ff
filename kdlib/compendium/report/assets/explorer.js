// The filter of the explorer: shows the prompts that contain every word typed. Without it, all prompts are listed.
(() => {
  const form = document.getElementById("kd-filter");
  const samples = [...document.querySelectorAll(".kd-sample")];

  const show = () => {
    const words = form.elements.prompt.value.toLowerCase().split(/\s+/);
    for (const sample of samples) {
      sample.hidden = !words.every((word) => sample.dataset.prompt.includes(word));
    }
    const shown = samples.filter((sample) => !sample.hidden).length;
    form.querySelector("[role=status]").textContent = `${shown} of ${samples.length} prompts`;
  };

  form.hidden = false;
  form.addEventListener("input", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(show)); // after the browser has emptied the box
  window.addEventListener("pageshow", show); // a browser may restore what was typed before
})();
