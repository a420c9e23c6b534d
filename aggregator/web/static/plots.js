// The plots of one output of a cell, drawn by plotly from what the server tells; colours from the page.

/** Return the plots that there are for the data: caption, alternative text and figure of each. */
export function plotsOf(data, colours) {
  if (data.samples.length === 0) return [];
  const plots = [convergence(data, colours)];
  if (data.has_errors && known(data).length > 0) plots.push(relativeError(data, colours));
  if (data.bars !== null) plots.push(histogram(data, colours));
  return plots;
}

/** Return the page's colours as they are now. */
export function coloursOf(element) {
  const style = getComputedStyle(element);
  const names = ["accent", "second", "text", "quiet", "line", "band"];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

/** Draw a plot, or bring one up to date. */
export function draw(element, figure) {
  return globalThis.Plotly.react(element, figure.data, figure.layout,
    { displayModeBar: false, responsive: true, scrollZoom: false, doubleClick: "reset" });
}

function known(data) {
  return data.samples.map((_, index) => index)
    .filter((index) => data.mean[index] && data.standard_error[index]);
}

function layoutOf(colours, x, y) {
  const axis = { color: colours.quiet, gridcolor: colours.line, zeroline: false, automargin: true,
    tickfont: { size: 12 } };
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", autosize: true,
    font: { color: colours.text, family: "system-ui, sans-serif", size: 13 },
    margin: { l: 56, r: 12, t: 8, b: 44 }, hovermode: "x unified", dragmode: "zoom",
    hoverlabel: { font: { size: 12 } },
    legend: { orientation: "h", y: 1.12, x: 0, font: { size: 12 } },
    xaxis: { ...axis, ...x }, yaxis: { ...axis, ...y },
  };
}

function title(text) {
  return { text, font: { size: 12 }, standoff: 8 };
}

function convergence(data, colours) {
  const banded = data.samples.map((_, index) => index).filter((index) => data.low[index] !== null);
  const at = banded.map((index) => data.samples[index]);
  const [low, high] = [data.low, data.high].map((edge) => banded.map((index) => edge[index]));
  const none = { width: 0, color: colours.accent };
  const traces = data.has_errors ? [
    { x: at, y: low, mode: "lines", line: none, hoverinfo: "skip", showlegend: false },
    { x: at, y: high, mode: "lines", line: none, fill: "tonexty", fillcolor: colours.band,
      hoverinfo: "skip", name: `${Number((100 * data.confidence).toPrecision(10))} % interval` },
  ] : [];
  traces.push({ x: data.samples, y: data.mean, mode: "lines+markers", name: "estimate",
    line: { color: colours.accent, width: 2 }, marker: { size: 4 },
    ...(data.has_errors && at.length === 1 ? bar(data, banded[0], colours) : {}) });
  return {
    caption: `Estimate of ${data.output}`,
    text: `${data.output} is ${data.text} after ${data.samples.at(-1).toLocaleString("en")} samples.`,
    figure: { data: traces, layout: layoutOf(colours,
      { title: title("samples"), rangemode: "tozero", exponentformat: "SI" },
      { title: title(data.output), tickformat: "~g", ...focus(low, high) }) },
  };
}

/** Return the interval as a bar: a band needs two points. */
function bar(data, index, colours) {
  const mean = data.mean[index];
  return { error_y: { type: "constant", symmetric: false, color: colours.accent, thickness: 2,
    value: data.high[index] - mean, valueminus: mean - data.low[index] } };
}

/** Show the later half as large as it needs to be: the first points reach far beyond it. */
function focus(low, high) {
  const from = Math.floor(low.length / 4);
  const [bottom, top] = [Math.min(...low.slice(from)), Math.max(...high.slice(from))];
  if (!(bottom < top)) return {};
  const margin = 0.15 * (top - bottom);
  return { range: [bottom - margin, top + margin] };
}

function relativeError(data, colours) {
  const indices = known(data);
  const at = indices.map((index) => data.samples[index]);
  const errors = indices.map((index) => data.standard_error[index] / Math.abs(data.mean[index]));
  const end = indices.length - 1;
  const law = at.map((samples) => errors[end] * Math.sqrt(at[end] / samples));
  const traces = [
    { x: at, y: law, mode: "lines", name: "1/√n", line: { color: colours.quiet, dash: "dot", width: 1.5 } },
    { x: at, y: errors, mode: "lines+markers", name: "relative error",
      line: { color: colours.second, width: 2 }, marker: { size: 4 } },
  ];
  const wanted = [data.target.relative_error,
    data.target.standard_error && data.target.standard_error / Math.abs(data.mean[indices[end]])]
    .filter((target) => target);
  if (wanted.length > 0) {
    const target = Math.min(...wanted);
    traces.push({ x: [at[0], at[end]], y: [target, target], mode: "lines", name: "target",
      line: { color: colours.accent, dash: "dash", width: 1.5 } });
  }
  return {
    caption: `Relative error of ${data.output}, on logarithmic axes`,
    text: `The relative error is ${errors[end].toPrecision(2)} after ${at[end]} samples.`,
    figure: { data: traces, layout: layoutOf(colours,
      { title: title("samples"), ...logarithmic(at, (value) => short(value)) },
      { title: title("standard error ÷ |mean|"),
        ...logarithmic(errors, (value) => String(Number(value.toPrecision(3)))) }) },
  };
}

function histogram(data, colours) {
  const { low, high, counts, outside } = data.bars;
  const width = (high - low) / counts.length || 1;
  const total = counts.reduce((sum, count) => sum + count, outside);
  return {
    caption: `Samples of ${data.output}`,
    text: `From ${low.toPrecision(4)} to ${high.toPrecision(4)} in ${counts.length} bars; ` +
      `${(100 * outside / total).toPrecision(2)} % of the samples lie outside.`,
    figure: { data: [
      { type: "bar", x: counts.map((_, index) => low + (index + 0.5) * width),
        y: counts.map((count) => 100 * count / total), width,
        marker: { color: colours.accent, line: { width: 0 } }, name: "share",
        hovertemplate: "%{y:.3g} %<extra></extra>" },
    ], layout: layoutOf(colours, { title: title(data.output), tickformat: "~g" },
      { title: title("share of the samples, %"), rangemode: "tozero", tickformat: "~g" }) },
  };
}

/** Return a logarithmic axis with ticks at 1, 2 and 5, or at powers of ten where these are many. */
function logarithmic(values, write) {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const steps = most / least < 200 ? [1, 2, 5] : [1];
  const ticks = [];
  for (let power = Math.floor(Math.log10(least)); power <= Math.log10(most) + 1; power += 1) {
    ticks.push(...steps.map((step) => step * 10 ** power));
  }
  return { type: "log", tickvals: ticks, ticktext: ticks.map(write) };
}

function short(value) {
  const [unit, size] = [["G", 1e9], ["M", 1e6], ["k", 1e3]].find(([, least]) => value >= least) ?? ["", 1];
  return `${value / size}${unit}`;
}
