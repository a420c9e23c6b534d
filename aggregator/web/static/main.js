// Finds out which page this is.

const parts = location.pathname.split("/").filter(Boolean);
const page = parts[0] === "runs" ? "run" : parts[0] ?? "runs";
const link = document.querySelector(`nav a[data-page="${page === "run" ? "runs" : page}"]`);
link?.setAttribute("aria-current", page === "run" ? "true" : "page");

const { show } = await import({ runs: "./runs.js", run: "./run.js", fleet: "./fleet.js" }[page]);
show(document.getElementById("main"), page === "run" ? decoded(parts[1] ?? "") : null);

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // which is then a name of no run
  }
}
