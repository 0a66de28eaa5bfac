(function () {
  "use strict";
  var figures = JSON.parse(document.getElementById("figures").textContent);
  var root = document.documentElement;
  function colour(name) { return getComputedStyle(root).getPropertyValue(name).trim(); }
  function axes(layout) { return Object.keys(layout).filter(function (key) { return /^[xy]axis\d*$/.test(key); }); }
  function theme(layout) {
    var look = { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", "font.color": colour("--ink") };
    axes(layout).forEach(function (axis) {
      look[axis + ".gridcolor"] = colour("--grid");
      look[axis + ".linecolor"] = colour("--line");
      look[axis + ".zerolinecolor"] = colour("--line");
    });
    (layout.shapes || []).forEach(function (shape, place) { look["shapes[" + place + "].line.color"] = colour("--soft"); });
    return look;
  }
  function nested(flat, into) {
    Object.keys(flat).forEach(function (path) {
      var parts = path.replace(/\[(\d+)\]/g, ".$1").split("."), at = into;
      parts.slice(0, -1).forEach(function (part) { at = at[part] = at[part] || {}; });
      at[parts[parts.length - 1]] = flat[path];
    });
    return into;
  }
  function narrow() { return window.innerWidth < 640; }
  function complete(layout) {
    var base = {
      margin: { l: narrow() ? 46 : 62, r: 10, t: 16, b: 42 }, hovermode: "closest", dragmode: false, showlegend: true,
      font: { family: getComputedStyle(document.body).fontFamily, size: narrow() ? 11 : 12 },
      legend: { orientation: "h", x: 0, xanchor: "left", y: 1, yanchor: "bottom", bgcolor: "rgba(0,0,0,0)" },
    };
    var result = Object.assign(base, layout);
    if (!result.xaxis) { result.xaxis = {}; }
    if (!result.yaxis) { result.yaxis = {}; }
    if (result.annotations && result.annotations.length) { result.legend.y = 1 + 26 / result.height; }
    axes(result).forEach(function (axis) {
      result[axis].automargin = result[axis].automargin === undefined ? axis[0] === "y" || true : result[axis].automargin;
      if (axis[0] === "y") { result[axis].fixedrange = false; }
    });
    return nested(theme(result), result);
  }
  var options = { responsive: true, displaylogo: false, displayModeBar: false, scrollZoom: false };
  var drawn = figures.map(function (figure) {
    var place = document.getElementById(figure.id);
    return window.Plotly.newPlot(place, figure.data, complete(figure.layout), options).then(function () {
      place.setAttribute("data-drawn", "true");
    });
  });
  function again() {
    figures.forEach(function (figure) {
      var place = document.getElementById(figure.id);
      window.Plotly.relayout(place, theme(place.layout));
    });
  }
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  window.matchMedia("print").addEventListener("change", again);
  Promise.all(drawn).then(function () { root.setAttribute("data-plots", String(drawn.length)); });
})();
