// Bottom bar, keyboard, and the first drawing.
$('about').textContent = data.about;
document.title = `ruminate trace: ${data.tokens.slice(0, data.prompt).join('').slice(0, 60)}`;
$('step').max = data.steps;
$('step').oninput = (event) => pick({ step: Number(event.target.value) });

const move = (key, by, most) => pick({ [key]: Math.max(0, Math.min(most, picked[key] + by)) });
$('before').onclick = () => move('token', -1, data.tokens.length - 1);
$('after').onclick = () => move('token', 1, data.tokens.length - 1);

let timer = null;
function play() {
  if (timer) {
    clearInterval(timer);
    timer = null;
  } else {
    if (picked.step === data.steps) pick({ step: 0 });
    timer = setInterval(() => {
      if (picked.step === data.steps) return play();
      move('step', 1, data.steps);
    }, Math.max(60, Math.min(400, 6000 / Math.max(data.steps, 1))));
  }
  $('play').textContent = timer ? '❚❚' : '▶';
}
$('play').onclick = play;
addEventListener('keydown', (event) => {
  const keys = {
    ArrowLeft: () => move('step', -1, data.steps),
    ArrowRight: () => move('step', 1, data.steps),
    ArrowUp: () => move('token', -1, data.tokens.length - 1),
    ArrowDown: () => move('token', 1, data.tokens.length - 1),
    ' ': play,
  };
  if (!keys[event.key] || event.target.tagName === 'INPUT' || (event.key === ' ' && event.target.tagName === 'BUTTON')) return;
  event.preventDefault();
  keys[event.key]();
});

draws.push(() => {
  $('step').value = picked.step;
  $('step-now').textContent = `${picked.step} of ${data.steps}`;
  $('token-now').textContent = name(picked.token);
});
addEventListener('resize', () => pick({}));
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => pick({}));
pick({});
document.documentElement.dataset.drawn = draws.length;
