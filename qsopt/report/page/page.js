const read = (id) => JSON.parse(document.getElementById(id).textContent);
const options = { renderer: "svg", actions: { export: true, source: false, compiled: false, editor: false } };
const views = {};
const specs = read("charts");
Promise.all(Object.entries(specs).map(async ([name, spec]) => {
  const place = document.getElementById("chart-" + name);
  views[name] = (await vegaEmbed(place, spec, options)).view;
})).then(() => { document.body.dataset.drawn = "true"; });
const labels = read("labels");
for (const input of document.querySelectorAll("input[data-signal]")) {
  const signal = input.dataset.signal;
  const said = document.getElementById("said-" + signal);
  const show = () => {
    said.textContent = labels[signal][Number(input.value)];
    input.setAttribute("aria-valuetext", said.textContent);
    if (views.grid) views.grid.signal(signal, Number(input.value)).runAsync();
  };
  input.addEventListener("input", show);
  said.textContent = labels[signal][Number(input.value)];
}
