// Shared helpers of a trace's plots.
Object.assign(picked, {
  token: data.focus,
  step: data.steps,
  text: data.used.every((used) => used === data.steps) ? 'settled' : 'used',
  heat: 'distance',
  others: false,
  zoom: 0,
  yaw: 0.7,
  pitch: 0.45,
});

/// Makes line breaks, tabs, and spaces at both ends of a token's text visible.
const shown = (text) => text.replace(/\n/g, '↵').replace(/\t/g, '⇥').replace(/^ | $/g, '␣') || '∅';
const word = (id) => shown(data.words[id]);
const name = (token) => shown(data.tokens[token]);

/// Color at a position from 0 to 1 in a list of colors.
const color = (list, part) => list[Math.round(Math.min(1, Math.max(0, part)) * (list.length - 1))];
const far = (part) => color(data.far, part);
const stepColor = (step) => color(data.path, data.steps ? step / data.steps : 1);
/// Black or white, whichever is easier to read on a color.
function inkOn(hex) {
  const [r, g, b] = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  return 0.299 * r + 0.587 * g + 0.114 * b > 140 ? '#15171c' : '#ffffff';
}

/// Draws a color scale with ticks and a label over the full width.
function scaleBar(id, list, low, high, marks, write, label) {
  const measure = $(id).getContext('2d');
  measure.font = FONT;
  const texts = lines(measure, label, $(id).clientWidth - 8);
  const { pen, width } = paper(id, 43 + 15 * texts.length);
  const [left, right] = [Math.max(60, width / 2 - 220), Math.min(width - 20, width / 2 + 220)];
  for (let x = left; x < right; x++) {
    pen.fillStyle = color(list, (x - left) / (right - left));
    pen.fillRect(x, 8, 1.5, 12);
  }
  pen.fillStyle = css('--pale');
  for (const at of marks) {
    const x = left + ((at - low) / (high - low || 1)) * (right - left);
    pen.fillRect(x - 0.5, 20, 1, 4);
    say(pen, write(at), x, 26, 'center', 'top');
  }
  pen.fillStyle = css('--ink');
  texts.forEach((text, at) => say(pen, text, width / 2, 43 + 15 * at, 'center', 'top'));
}
