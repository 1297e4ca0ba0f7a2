// One diverging scale for everything signed: orange against, violet towards. Told apart by colour-blind readers, and by
// lightness against both backgrounds.

const dark = matchMedia("(prefers-color-scheme: dark)");
const ENDS = {
  light: { zero: [247, 247, 245], towards: [84, 39, 136], against: [179, 88, 6] },
  dark: { zero: [32, 32, 36], towards: [178, 158, 226], against: [241, 163, 64] },
};

/** Background and ink of a value between -1 and 1. */
export function diverging(value) {
  const { zero, towards, against } = ENDS[dark.matches ? "dark" : "light"];
  const end = value < 0 ? against : towards;
  // The square root lifts small values off the background.
  const weight = Math.sqrt(Math.min(1, Math.abs(value)));
  const mixed = zero.map((from, channel) => Math.round(from + (end[channel] - from) * weight));
  return { background: `rgb(${mixed.join(" ")})`, ink: luminance(mixed) > 0.18 ? "#000" : "#fff" };
}

function luminance(channels) {
  const [r, g, b] = channels.map((value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/** The pixel [r, g, b, a] that lies over a greyed picture for a value between -1 and 1. */
export function overlay(value) {
  const [r, g, b] = value < 0 ? [255, 150, 20] : [140, 90, 255];
  // The square root lets weaker patches be seen beside the strongest.
  return [r, g, b, Math.round(230 * Math.sqrt(Math.min(1, Math.abs(value))))];
}
