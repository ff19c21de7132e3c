// Takes the network's time out of what is measured: `fetch` here reads the whole reply and adds up how long that took.

let network = 0;
const platform = window.fetch;
window.fetch = async (...given) => {
  const start = performance.now();
  const reply = await platform(...given);
  const content = await reply.arrayBuffer();
  network += performance.now() - start;
  return new Response(content, reply);
};

/** Operations in one sample: enough of them that a coarse clock will do. */
export const BATCH = 20;

/** Microseconds of one operation, without the network's. */
export async function sample(operate) {
  network = 0;
  const start = performance.now();
  for (let left = BATCH; left > 0; left -= 1) await operate();
  return ((performance.now() - start - network) * 1000) / BATCH;
}
