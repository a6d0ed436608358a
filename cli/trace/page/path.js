// Path of a token's state in principal components: three planes, and a rotatable 3D view.
const percent = (at) => `PC ${at + 1} (${(data.explained[at] * 100).toFixed(1)} %)`;
const pairs = [[0, 1], [2, 3], [4, 5]].filter(([, second]) => second < data.explained.length);

/// Bounds around the final state that contain the path, or all paths if they are shown, divided by the zoom.
function reach(components) {
  const centre = components.map((at) => data.pca[picked.token][data.steps][at]);
  const paths = picked.others ? data.pca : [data.pca[picked.token]];
  const most = components.map((at, i) => paths.flat().reduce((most, point) => Math.max(most, Math.abs(point[at] - centre[i])), 1e-9));
  return { centre, most: most.map((size) => (size * 1.08) / 10 ** picked.zoom) };
}

/// Draws paths of screen points: the picked path in the colors of its steps, up to the current step, and the others pale.
function drawPaths(pen, point) {
  if (picked.others) {
    pen.strokeStyle = css('--faint');
    pen.lineWidth = 1;
    data.pca.forEach((path, token) => {
      if (token === picked.token) return;
      pen.beginPath();
      path.forEach((at, step) => (step ? pen.lineTo(...point(at)) : pen.moveTo(...point(at))));
      pen.stroke();
    });
  }
  const path = data.pca[picked.token].map(point);
  for (let step = 1; step < path.length; step++) {
    const past = step <= picked.step;
    pen.strokeStyle = past ? stepColor(step) : css('--faint');
    pen.lineWidth = past ? 2 : 1;
    line(pen, ...path[step - 1], ...path[step]);
  }
  path.slice(0, picked.step + 1).forEach(([x, y], step) => dot(pen, x, y, step === 0 ? 4 : 2.6, stepColor(step)));
  const [x, y] = path[data.steps];
  pen.strokeStyle = css('--ink');
  pen.lineWidth = 1.5;
  line(pen, x - 6, y, x + 6, y);
  line(pen, x, y - 6, x, y + 6);
  dot(pen, ...path[picked.step], 6, stepColor(picked.step), css('--ink'));
  return path;
}

/// Shows a tooltip for the step at the pointer; a click picks it.
function follow(id, points) {
  $(id).onmousemove = (event) => {
    const near = (points.now || []).map(([x, y], step) => [Math.hypot(x - event.offsetX, y - event.offsetY), step]);
    const [away, step] = near.reduce((a, b) => (b[0] <= a[0] ? b : a), [1e9, 0]);
    if (away > 12) return tip();
    tip(event, `${name(picked.token)}  step ${step}
distance to the final state ${figure(data.distances[picked.token][step])}
would say ${word(data.top[picked.token][step][0])}`);
  };
  $(id).onmouseleave = () => tip();
  $(id).onclick = (event) => {
    const near = (points.now || []).findIndex(([x, y]) => Math.hypot(x - event.offsetX, y - event.offsetY) < 8);
    if (near >= 0) pick({ step: near });
  };
}

[0, 1, 2].forEach((at) => {
  if (!pairs[at]) return $('plane' + at).parentElement.remove();
  const points = {};
  follow('plane' + at, points);
  draws.push(() => {
    const [a, b] = pairs[at];
    const { pen, width, height } = paper('plane' + at, 230);
    const { centre, most } = reach([a, b]);
    const box = [62, 10, width - 10, height - 44];
    const side = (i) => {
      const [low, high] = [centre[i] - most[i], centre[i] + most[i]];
      return { low, high, ticks: ticks(low, high, 4), label: percent(pairs[at][i]), away: 52 };
    };
    const { across, up } = axes(pen, box, side(0), side(1));
    pen.save();
    pen.beginPath();
    pen.rect(box[0] - 4, box[1] - 4, box[2] - box[0] + 8, box[3] - box[1] + 8);
    pen.clip();
    points.now = drawPaths(pen, (point) => [across(point[a]), up(point[b])]);
    pen.restore();
  });
});

const fallPoints = {};
follow('fall', fallPoints);
draws.push(() => {
  const { pen, width, height } = paper('fall', 230);
  const row = logs[picked.token];
  const { low, high } = heats.distance;
  const x = { low: 0, high: Math.max(data.steps, 1), ticks: whole(data.steps, 6), label: 'recurrence step i' };
  const y = { low, high, ticks: heats.distance.marks(low, high), write: power, label: 'distance ‖sᵢ − s*‖', away: 46 };
  const { across, up } = axes(pen, [62, 10, width - 10, height - 44], x, y);
  const floor = Math.log10(data.floor);
  if (floor > low && floor < high) {
    pen.strokeStyle = css('--pale');
    pen.setLineDash([4, 4]);
    line(pen, 62, up(floor), width - 10, up(floor));
    pen.setLineDash([]);
    pen.fillStyle = css('--pale');
    say(pen, `below: rounding (${data.kv_dtype})`, width - 12, up(floor) + 3, 'right', 'top');
  }
  const points = row.map((log, step) => [across(step), up(Number.isFinite(log) ? log : low)]);
  fallPoints.now = points;
  for (let step = 1; step < points.length; step++) {
    pen.strokeStyle = step <= picked.step ? stepColor(step) : css('--faint');
    pen.lineWidth = 2;
    line(pen, ...points[step - 1], ...points[step]);
  }
  dot(pen, ...points[picked.step], 5, stepColor(picked.step), css('--ink'));
});

const spacePoints = {};
follow('space', spacePoints);
draws.push(() => {
  const axesShown = [0, 1, 2].filter((at) => at < data.explained.length);
  const { pen, width, height } = paper('space', 476);
  const { centre, most } = reach(axesShown);
  const size = Math.min(width, height) * 0.25;
  const [cosY, sinY, cosP, sinP] = [Math.cos(picked.yaw), Math.sin(picked.yaw), Math.cos(picked.pitch), Math.sin(picked.pitch)];
  const turn = ([x, y, z]) => {
    const [u, v] = [x * cosY - y * sinY, x * sinY + y * cosY];
    const away = 3.4 / (3.4 + v * cosP - z * sinP);
    return [width / 2 + u * size * away, height / 2 - (z * cosP + v * sinP) * size * away];
  };
  // The box and the labels of its axes.
  pen.strokeStyle = css('--grid');
  pen.lineWidth = 1;
  const corners = [0, 1, 2, 3, 4, 5, 6, 7].map((bits) => [0, 1, 2].map((axis) => (bits >> axis & 1 ? 1 : -1)));
  corners.forEach((from, a) => corners.forEach((to, b) => {
    if (a < b && from.filter((x, axis) => x !== to[axis]).length === 1) line(pen, ...turn(from), ...turn(to));
  }));
  pen.fillStyle = css('--pale');
  const ends = [[0, -1.3, -1.2], [1.3, 0, -1.2], [-1.3, -1.3, 0]];
  axesShown.forEach((axis) => {
    const [x, y] = turn(ends[axis]);
    say(pen, percent(axis), Math.min(width - 50, Math.max(50, x)), y, 'center', 'middle');
  });
  pen.save();
  pen.beginPath();
  pen.rect(0, 0, width, height);
  pen.clip();
  const inBox = (point) => [0, 1, 2].map((axis) => (axis < axesShown.length ? (point[axis] - centre[axis]) / most[axis] : 0));
  spacePoints.now = drawPaths(pen, (point) => turn(inBox(point).map((x) => Math.max(-40, Math.min(40, x)))));
  pen.restore();
  $('path-of').textContent = `${name(picked.token)}, position ${picked.token}: principal components of all states, a cross where it ends`;
  $('zoom-by').textContent = `${figure(10 ** picked.zoom)} ×`;
  scaleBar('path-legend', data.path, 0, data.steps, whole(data.steps, 8), String, 'recurrence step i');
});

let grip = null;
$('space').addEventListener('pointerdown', (event) => {
  grip = { x: event.clientX, y: event.clientY, yaw: picked.yaw, pitch: picked.pitch };
  $('space').setPointerCapture(event.pointerId);
});
$('space').addEventListener('pointermove', (event) => {
  if (!grip) return;
  const pitch = Math.max(-1.5, Math.min(1.5, grip.pitch + (event.clientY - grip.y) * 0.008));
  pick({ yaw: grip.yaw - (event.clientX - grip.x) * 0.008, pitch });
});
['pointerup', 'pointercancel'].forEach((kind) => $('space').addEventListener(kind, () => { grip = null; }));
$('others').onchange = (event) => pick({ others: event.target.checked });
$('zoom').oninput = (event) => pick({ zoom: Number(event.target.value) });
